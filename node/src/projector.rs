//! `cairn-projector`: a process that keeps the read models which several processes share up with the log.

use std::sync::Arc;

use anyhow::Result;
use clap::Parser;

use crate::beside::{Beside, BesideArgs, Program};
use crate::brain::Role;
use crate::{http, kafka};

const PROGRAM: Program = Program {
    name: "cairn-projector",
    role: Role::Projector,
    port: 7412,
    without_database: "A node that keeps everything in its data folder needs no projector beside it",
};

/// Keeps the read models in PostgreSQL and Qdrant up with the log, for nodes that run with `projections = "external"`.
///
/// Any number may run: each read model is kept up by one of them, and when that one ends another takes over.
#[derive(Debug, Clone, Parser)]
#[command(name = "cairn-projector", version, max_term_width = 110)]
#[command(after_help = "\
Examples:
  DATABASE_URL=postgres://cairn:secret@db/cairn CAIRN_BRAIN_KEY=/run/secrets/brain.key cairn-projector
  cairn --url http://127.0.0.1:7412 --data ~/.local/share/cairn-projector projections
  curl -s http://127.0.0.1:7412/metrics | grep lag

It answers health, metrics and projections, at 127.0.0.1:7412 unless told otherwise. It needs the
database that the nodes use, and the brain's key, which is in the data folder of the first node.")]
pub struct ProjectorArgs {
    #[command(flatten)]
    beside: BesideArgs,
}

/// Runs until told to stop.
///
/// # Errors
/// When there is no database to work for, or it cannot be used.
pub async fn run(ProjectorArgs { beside: args }: ProjectorArgs) -> Result<()> {
    let mut config = args.configuration(&PROGRAM)?;
    let beside = Beside::open(&PROGRAM, &args, &mut config).await?;
    let kafka = config.kafka.as_ref().map(|config| kafka::start(&beside.brain, config)).transpose()?;
    let routes = http::projector_service(Arc::clone(&beside.brain));
    let ended = async {
        if let Some(kafka) = kafka {
            kafka.ended().await;
        }
    };
    beside.serve(routes, ended).await
}
