//! `cairn-federation`: a process that meets other brains, for nodes that leave it to others.

use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Parser;

use crate::beside::{Beside, BesideArgs, Program};
use crate::brain::Role;
use crate::{federation, http};

const PROGRAM: Program = Program {
    name: "cairn-federation",
    role: Role::Federation,
    port: 7414,
    without_database: "A node that keeps everything in its data folder meets other brains itself",
};

/// Shares memories with other brains, for nodes that run with `enabled = false` in `[federation]`.
///
/// Several may run: one of them meets other brains, and when that one ends another takes over.
#[derive(Debug, Clone, Parser)]
#[command(name = "cairn-federation", version, max_term_width = 110)]
#[command(after_help = "\
Examples:
  DATABASE_URL=postgres://cairn:secret@db/cairn CAIRN_BRAIN_KEY=/run/secrets/brain.key cairn-federation
  cairn --url http://127.0.0.1:7414 --data ~/.local/share/cairn-federation peer invite
  curl -s http://127.0.0.1:7414/health/live

It answers health, metrics and the API of sharing, at 127.0.0.1:7414 unless told otherwise. Nodes to
which CAIRN_FEDERATION__ANSWERED_AT says so pass on what they are asked about sharing. It needs the
database that the nodes use, and the brain's key, which is in the data folder of the first node.")]
pub struct FederationArgs {
    #[command(flatten)]
    beside: BesideArgs,
}

/// Runs until told to stop.
///
/// # Errors
/// When there is no database to work for, or it cannot be used, or others cannot be listened for.
pub async fn run(FederationArgs { beside: args }: FederationArgs) -> Result<()> {
    let mut config = args.configuration(&PROGRAM)?;
    if !config.federation.enabled {
        bail!("[federation] says `enabled = false`, and there is nothing else for this program to do");
    }
    let beside = Beside::open(&PROGRAM, &args, &mut config).await?;
    let federation = federation::start(&beside.brain, &config, beside.at.port()).await?;
    let routes = http::federation_service(Arc::clone(&beside.brain));
    let ended = async {
        if let Some(federation) = federation {
            federation.ended().await;
        }
    };
    beside.serve(routes, ended).await
}
