//! `tidemill model`: what jobs have learnt.

use crate::cli::DriverUrl;
use crate::client;
use crate::exit::{Done, Failure, Outcome};
use clap::{Args, Subcommand};
use comfy_table::Table;
use serde_json::{Map, Value};
use tidemill_common::location::Location;
use tidemill_proto::MAX_MESSAGE_BYTES;
use tidemill_proto::client::{ImportModelRequest, ModelReply, ModelRequest, ModelsRequest, TagModelRequest};

/// What to do with models.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// The newest version of every model.
    List {
        /// Only those of this job.
        #[arg(long)]
        job: Option<String>,
        #[command(flatten)]
        driver: DriverUrl,
    },
    /// A model: what it is, how much it has seen, which versions are kept.
    Show(WhichModel),
    /// A model as JSON, to be served elsewhere or to begin another job with (`initial`).
    Export {
        #[command(flatten)]
        which: WhichModel,
        /// The file, or the URL of an object; standard output by default.
        #[arg(long, value_name = "FILE|URL", value_parser = Location::parse)]
        out: Option<Location>,
    },
    /// Put an exported model in the place of one of a running job, from its next batch on.
    Import {
        /// The model's name.
        model: String,
        /// The file, or the URL of an object: JSON, as `export` writes it; of the same kind and parameters.
        #[arg(value_name = "FILE|URL", value_parser = Location::parse)]
        file: Location,
        /// The job's name, where several have a model of this name.
        #[arg(long)]
        job: Option<String>,
        #[command(flatten)]
        driver: DriverUrl,
    },
    /// Give a version a name: it is kept until the name is taken away or given to another version.
    Tag {
        /// The model's name.
        model: String,
        /// The batch that left the version, or another name of it.
        version: String,
        /// The name.
        label: String,
        /// The job's name, where several have a model of this name.
        #[arg(long)]
        job: Option<String>,
        #[command(flatten)]
        driver: DriverUrl,
    },
    /// Take the name of a version away.
    Untag {
        /// The model's name.
        model: String,
        /// The version's name.
        label: String,
        /// The job's name, where several have a model of this name.
        #[arg(long)]
        job: Option<String>,
        #[command(flatten)]
        driver: DriverUrl,
    },
}

/// Which model is meant.
#[derive(Debug, Args)]
pub(crate) struct WhichModel {
    /// The model's name.
    model: String,
    /// The job's name, where several have a model of this name.
    #[arg(long)]
    job: Option<String>,
    /// The batch that left it, or the version's name; the newest by default.
    #[arg(long, value_name = "BATCH|LABEL")]
    version: Option<String>,
    #[command(flatten)]
    driver: DriverUrl,
}

pub(crate) async fn run(command: ModelCommand) -> Done {
    match command {
        ModelCommand::List { job, driver } => list(job, &driver).await,
        ModelCommand::Show(which) => show(which).await,
        ModelCommand::Export { which, out } => export(which, out).await,
        ModelCommand::Import { model, file, job, driver } => import(model, &file, job, &driver).await,
        ModelCommand::Tag { model, version, label, job, driver } => {
            let batch = tag(&driver, job, model, version, label.clone()).await?;
            say!("`{label}` is the version of batch {batch}")?;
            Ok(Outcome::Fine)
        }
        ModelCommand::Untag { model, label, job, driver } => {
            let batch = tag(&driver, job, model, String::new(), label.clone()).await?;
            say!("`{label}` is no name of the version of batch {batch} any more")?;
            Ok(Outcome::Fine)
        }
    }
}

async fn list(job: Option<String>, driver: &DriverUrl) -> Done {
    let mut client = client::connect(&driver.driver).await?;
    let request = ModelsRequest { job: job.unwrap_or_default() };
    let reply = client.models(request).await.map_err(client::refused)?.into_inner();
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["JOB", "MODEL", "KIND", "FEATURES", "BATCH", "ROWS", "BYTES", "HEALTH"]);
    for summary in &reply.models {
        let summary = parse(summary)?;
        let text = |key: &str| match &summary[key] {
            Value::Null => "-".to_string(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let health = match &summary["diverged_since_batch"] {
            Value::Null => "healthy".to_string(),
            batch => format!("diverged since batch {batch}"),
        };
        let cells = ["job", "model", "kind", "features", "batch", "rows", "bytes"].map(text);
        table.add_row(cells.into_iter().chain([health]));
    }
    say!("{table}")?;
    Ok(Outcome::Fine)
}

async fn show(which: WhichModel) -> Done {
    let reply = fetch(which).await?;
    let mut summary = parse(&reply.summary)?;
    summary["versions"] = reply.versions.into();
    summary["named"] =
        reply.named.into_iter().map(|named| (named.label, named.batch.into())).collect::<Map<_, _>>().into();
    say!("{}", serde_json::to_string_pretty(&summary).map_err(|error| Failure::failed(error.to_string()))?)?;
    Ok(Outcome::Fine)
}

async fn export(which: WhichModel, out: Option<Location>) -> Done {
    let reply = fetch(which).await?;
    let model = parse(&reply.model)?;
    let text = serde_json::to_string_pretty(&model).map_err(|error| Failure::failed(error.to_string()))?;
    match out {
        None => say!("{text}")?,
        Some(file) => tidemill_store::write(&file, (text + "\n").into_bytes())
            .map_err(|error| Failure::usage(format!("cannot write the model: {error}")))?,
    }
    Ok(Outcome::Fine)
}

async fn import(model: String, file: &Location, job: Option<String>, driver: &DriverUrl) -> Done {
    let unusable = |error: String| Failure::usage(format!("cannot read the model: {error}"));
    let bytes = tidemill_store::read(file, MAX_MESSAGE_BYTES as u64).map_err(|error| unusable(error.to_string()))?;
    let document = String::from_utf8(bytes.to_vec()).map_err(|error| unusable(format!("{file}: {error}")))?;
    let mut client = client::connect(&driver.driver).await?;
    let request = ImportModelRequest { job: job.unwrap_or_default(), model: model.clone(), document };
    let reply = client.import_model(request).await.map_err(client::refused)?.into_inner();
    say!("job `{}` goes on with this `{model}` from batch {} on", reply.job, reply.batch)?;
    Ok(Outcome::Fine)
}

async fn tag(
    driver: &DriverUrl,
    job: Option<String>,
    model: String,
    version: String,
    label: String,
) -> Result<u64, Failure> {
    let mut client = client::connect(&driver.driver).await?;
    let request = TagModelRequest { job: job.unwrap_or_default(), model, version, label };
    Ok(client.tag_model(request).await.map_err(client::refused)?.into_inner().batch)
}

async fn fetch(which: WhichModel) -> Result<ModelReply, Failure> {
    let mut client = client::connect(&which.driver.driver).await?;
    let (job, version) = (which.job.unwrap_or_default(), which.version.unwrap_or_default());
    let request = ModelRequest { job, model: which.model, version };
    Ok(client.model(request).await.map_err(client::refused)?.into_inner())
}

fn parse(json: &str) -> Result<Value, Failure> {
    serde_json::from_str(json).map_err(|error| Failure::failed(format!("the driver's answer does not read: {error}")))
}
