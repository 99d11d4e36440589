//! `tidemill produce`.

use crate::cli::{bind, interrupted};
use crate::exit::{Done, Failure, Outcome};
use crate::produce::{self, FileConfig, Pace, ProducerStats, PurchasesConfig, Users};
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What to send.
#[derive(Debug, Subcommand)]
pub(crate) enum ProduceCommand {
    /// Random purchases, `user,product,price`.
    Purchases(PurchasesArgs),
    /// The lines of a file.
    File(FileArgs),
}

/// Where and how.
#[derive(Debug, Args)]
pub(crate) struct SenderArgs {
    /// Port to listen on; 0 for any.
    #[arg(long, default_value_t = 9999)]
    port: u16,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: std::net::IpAddr,
    /// Lines per second; 0 for as fast as they are taken.
    #[arg(long)]
    rate: Option<f64>,
    /// Do not speak the acknowledged line protocol: for jobs with `acknowledge = false`, and for other programs.
    #[arg(long)]
    plain: bool,
}

impl SenderArgs {
    fn address(&self) -> SocketAddr {
        (self.host, self.port).into()
    }

    fn pace(&self, default: Pace) -> Result<Pace, Failure> {
        match self.rate {
            None => Ok(default),
            Some(0.0) => Ok(Pace::Unlimited),
            Some(rate) if rate > 0.0 && rate.is_finite() => Ok(Pace::PerSecond(rate)),
            Some(rate) => Err(Failure::usage(format!("--rate {rate}: lines per second, 0 for no limit"))),
        }
    }
}

/// Options of `tidemill produce purchases`.
#[derive(Debug, Args)]
pub(crate) struct PurchasesArgs {
    #[command(flatten)]
    sender: SenderArgs,
    /// So many made-up users instead of the chapter's 20 names.
    #[arg(long)]
    users: Option<u32>,
    /// Another seed, other purchases.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Lines in all.
    #[arg(long)]
    total: Option<u64>,
}

/// Options of `tidemill produce file`.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The file.
    path: PathBuf,
    #[command(flatten)]
    sender: SenderArgs,
}

pub(crate) async fn run(command: ProduceCommand) -> Done {
    let stats = Arc::new(ProducerStats::default());
    let stop = CancellationToken::new();
    match command {
        ProduceCommand::Purchases(args) => {
            let config = PurchasesConfig {
                listen: args.sender.address(),
                pace: args.sender.pace(Pace::Chapter)?,
                users: args.users.map_or(Users::Chapter, Users::Synthetic),
                seed: args.seed,
                total: args.total,
                acknowledge: !args.sender.plain,
            };
            let listener = bind(config.listen).await?;
            println!("listening on {}", listener.local_addr()?);
            let sending = produce::serve(listener, config, stats.clone(), stop.clone());
            tokio::select! {
                () = sending => {}
                () = report(&stats) => {}
                () = interrupted() => {}
            }
        }
        ProduceCommand::File(args) => {
            let listener = bind(args.sender.address()).await?;
            println!("listening on {}", listener.local_addr()?);
            let pace = args.sender.pace(Pace::Unlimited)?;
            let config = FileConfig { path: args.path, pace, acknowledge: !args.sender.plain };
            let sending = produce::serve_file(listener, config, stats.clone(), stop.clone());
            tokio::select! {
                result = sending => result?,
                () = report(&stats) => {}
                () = interrupted() => {}
            }
        }
    }
    stop.cancel();
    println!("sent {} lines, {} of them held", stats.sent(), stats.held());
    Ok(Outcome::Fine)
}

/// A line a second while something happens.
async fn report(stats: &ProducerStats) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut last = (0, 0);
    loop {
        ticks.tick().await;
        let now = (stats.sent(), stats.held());
        if now != last {
            println!("sent {} lines, {} held, {} receivers connected", now.0, now.1, stats.connections());
            last = now;
        }
    }
}
