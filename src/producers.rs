//! `tidemill produce`.

use crate::cli::{bind, interrupted};
use crate::exit::{Done, Failure, Outcome};
use crate::produce::{
    self, ClusterPoints, FileConfig, FilePace, LinearPoints, Lines, MadeConfig, Pace, ProducerStats, PurchasesConfig,
    Recorded, TimeColumn, Users,
};
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
    /// Points of a linear model, `label<TAB>x1,x2,..`: the chapter's StreamingModelProducer.
    Points(PointsArgs),
    /// Points around centres, `cluster<TAB>x1,x2,..`, for k-means.
    Clusters(ClustersArgs),
    /// The lines of a file.
    File(FileArgs),
}

impl ProduceCommand {
    fn sender(&self) -> &SenderArgs {
        match self {
            Self::Purchases(args) => &args.sender,
            Self::Points(args) => &args.sender,
            Self::Clusters(args) => &args.sender,
            Self::File(args) => &args.sender,
        }
    }
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

/// How many points, and which.
#[derive(Debug, Args)]
struct MadeArgs {
    /// Another seed, other points.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Lines in all.
    #[arg(long)]
    total: Option<u64>,
    /// How far the truth moves per 1,000 lines.
    #[arg(long, default_value_t = 0.0)]
    drift: f64,
    /// Print the truth at the first line, as JSON, before anything is sent.
    #[arg(long)]
    show_truth: bool,
}

/// Options of `tidemill produce points`.
#[derive(Debug, Args)]
pub(crate) struct PointsArgs {
    #[command(flatten)]
    sender: SenderArgs,
    #[command(flatten)]
    made: MadeArgs,
    /// Numbers per point.
    #[arg(long, default_value_t = 100)]
    features: u32,
    /// Standard deviation of what is added to labels.
    #[arg(long, default_value_t = 0.0)]
    noise: f64,
}

/// Options of `tidemill produce clusters`.
#[derive(Debug, Args)]
pub(crate) struct ClustersArgs {
    #[command(flatten)]
    sender: SenderArgs,
    #[command(flatten)]
    made: MadeArgs,
    /// Number of clusters.
    #[arg(long, short = 'k', default_value_t = 3)]
    clusters: u32,
    /// Numbers per point.
    #[arg(long, default_value_t = 2)]
    features: u32,
    /// Standard deviation of the points around their centre.
    #[arg(long, default_value_t = 1.0)]
    spread: f64,
}

/// Options of `tidemill produce file`.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The file; unpacked if its name ends in `.gz`.
    path: PathBuf,
    #[command(flatten)]
    sender: SenderArgs,
    /// The first line has the names of the columns and is not sent; so it is where `--time-column` is a name.
    #[arg(long)]
    header: bool,
    /// At most so many records.
    #[arg(long)]
    records: Option<u64>,
    /// Send records at the pace at which they happened: the column with their time, by name, or by position from 1.
    #[arg(long, conflicts_with = "rate")]
    time_column: Option<String>,
    /// How times are written, as `%d.%m.%Y %H:%M`; without it ISO 8601, or seconds or milliseconds since 1970.
    #[arg(long, requires = "time_column")]
    time_format: Option<String>,
    /// So many seconds of the records go by in one.
    #[arg(long, requires = "time_column", default_value_t = 1.0)]
    speed_up: f64,
    /// Between columns.
    #[arg(long, default_value_t = ',')]
    delimiter: char,
}

impl FileArgs {
    fn config(self) -> Result<FileConfig, Failure> {
        let pace = match self.time_column {
            None => FilePace::Even(self.sender.pace(Pace::Unlimited)?),
            Some(column) => FilePace::Recorded(Recorded {
                column: time_column(column)?,
                delimiter: u8::try_from(self.delimiter)
                    .ok()
                    .filter(u8::is_ascii)
                    .ok_or_else(|| Failure::usage(format!("--delimiter {}: a character of ASCII", self.delimiter)))?,
                format: self.time_format,
                speed_up: self.speed_up,
            }),
        };
        let acknowledge = !self.sender.plain;
        Ok(FileConfig { path: self.path, header: self.header, records: self.records, pace, acknowledge })
    }
}

fn time_column(column: String) -> Result<TimeColumn, Failure> {
    match column.parse::<usize>() {
        Ok(0) => Err(Failure::usage("--time-column 0: a name, or a position from 1")),
        Ok(position) => Ok(TimeColumn::At(position - 1)),
        Err(_) => Ok(TimeColumn::Named(column)),
    }
}

pub(crate) async fn run(command: ProduceCommand) -> Done {
    let stats = Arc::new(ProducerStats::default());
    let stop = CancellationToken::new();
    let plain = command.sender().plain;
    match command {
        ProduceCommand::Purchases(args) => {
            let config = PurchasesConfig {
                listen: args.sender.address(),
                pace: args.sender.pace(Pace::Below(6))?,
                users: args.users.map_or(Users::Chapter, Users::Synthetic),
                seed: args.seed,
                total: args.total,
                acknowledge: !args.sender.plain,
            };
            let listener = bind(config.listen).await?;
            say!("listening on {}", listener.local_addr()?)?;
            let sending = produce::serve(listener, config, stats.clone(), stop.clone());
            tokio::select! {
                () = sending => {}
                said = report(&stats, plain) => said?,
                () = interrupted() => {}
            }
        }
        ProduceCommand::Points(args) => {
            positive(args.features, "--features")?;
            let points = LinearPoints::new(args.features as usize, args.made.seed, args.noise, args.made.drift);
            if args.made.show_truth {
                let (weights, intercept) = points.truth(0);
                say!("{}", serde_json::json!({ "weights": weights, "intercept": intercept }))?;
            }
            make(Arc::new(points), &args.sender, &args.made, &stats, &stop).await?;
        }
        ProduceCommand::Clusters(args) => {
            positive(args.features, "--features")?;
            positive(args.clusters, "--clusters")?;
            let (clusters, features) = (args.clusters as usize, args.features as usize);
            let points = ClusterPoints::new(clusters, features, args.made.seed, args.spread, args.made.drift);
            if args.made.show_truth {
                say!("{}", serde_json::json!({ "centers": points.truth(0) }))?;
            }
            make(Arc::new(points), &args.sender, &args.made, &stats, &stop).await?;
        }
        ProduceCommand::File(args) => {
            std::fs::File::open(&args.path)
                .map_err(|error| Failure::usage(format!("cannot read {}: {error}", args.path.display())))?;
            let listener = bind(args.sender.address()).await?;
            say!("listening on {}", listener.local_addr()?)?;
            let sending = produce::serve_file(listener, args.config()?, stats.clone(), stop.clone());
            tokio::select! {
                result = sending => result.map_err(unfit)?,
                said = report(&stats, plain) => said?,
                () = interrupted() => {}
            }
        }
    }
    stop.cancel();
    match plain {
        true => say!("sent {} lines", stats.sent())?,
        false => say!("sent {} lines, {} of them held", stats.sent(), stats.held())?,
    }
    Ok(Outcome::Fine)
}

/// A file that is not what the command line says is the user's mistake.
fn unfit(error: std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::InvalidInput => Failure::usage(error.to_string()),
        _ => error.into(),
    }
}

fn positive(count: u32, flag: &str) -> Result<(), Failure> {
    if count == 0 { Err(Failure::usage(format!("{flag} 0: at least 1"))) } else { Ok(()) }
}

/// Sends lines that are made, until all are sent or someone interrupts.
async fn make(
    lines: Arc<dyn Lines>,
    sender: &SenderArgs,
    made: &MadeArgs,
    stats: &Arc<ProducerStats>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let listener = bind(sender.address()).await?;
    say!("listening on {}", listener.local_addr()?)?;
    let pace = sender.pace(Pace::Below(100))?;
    let config = MadeConfig { pace, seed: made.seed, total: made.total, acknowledge: !sender.plain };
    tokio::select! {
        () = produce::serve_lines(listener, lines, config, stats.clone(), stop.clone()) => {}
        said = report(stats, sender.plain) => said?,
        () = interrupted() => {}
    }
    Ok(())
}

/// A line a second while something happens. Nobody says what is held of a plain stream.
async fn report(stats: &ProducerStats, plain: bool) -> Result<(), Failure> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut last = (0, 0);
    loop {
        ticks.tick().await;
        let now = (stats.sent(), stats.held());
        if now == last {
            continue;
        }
        last = now;
        let receivers = match stats.connections() {
            1 => "1 receiver".to_string(),
            count => format!("{count} receivers"),
        };
        match plain {
            true => say!("sent {} lines, {receivers} connected", now.0)?,
            false => say!("sent {} lines, {} held, {receivers} connected", now.0, now.1)?,
        }
    }
}
