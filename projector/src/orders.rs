//! What admins ask of a projection, also where another process runs it.
//!
//! An order is a row. The process that holds the lease looks for rows every half second, carries them out and writes its
//! answer into them; whoever ordered takes the answer away. An order that nobody waits for any more is not carried out.

use std::io;
use std::time::Duration;

use cairn_read_model::postgres::Server;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::projector::ProjectorError;
use crate::rebuild::Rebuild;
use crate::status::Progress;

/// How long whoever orders waits for the answer: several times as long as the other process takes to look, and to end a
/// build in the middle of a batch.
pub(crate) const ORDER_PATIENCE: Duration = Duration::from_secs(15);

/// Something to be done with a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Build a new generation.
    Rebuild(Rebuild),
    /// Stop what is built.
    Cancel,
    /// Let the generation before serve again.
    Back,
    /// Delete the generation before.
    DropPrevious,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Done,
    AlreadyRebuilding,
    NotRebuilding,
    NotServing,
    NoPrevious,
    Paused,
    Failed(String),
}

/// What the process that runs a projection tells the others, beside what the rows say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) tidy: bool,
    pub(crate) problem: Option<String>,
    pub(crate) rebuild: Option<Progress>,
}

/// The orders of one projection, in the database of those who share it. Every method blocks.
#[derive(Debug, Clone)]
pub struct Orders {
    server: Server,
    projection: &'static str,
}

impl Answer {
    pub(crate) fn of(outcome: Result<(), ProjectorError>) -> Self {
        match outcome {
            Ok(()) => Self::Done,
            Err(ProjectorError::AlreadyRebuilding { .. }) => Self::AlreadyRebuilding,
            Err(ProjectorError::NotRebuilding { .. }) => Self::NotRebuilding,
            Err(ProjectorError::NotServing { .. }) => Self::NotServing,
            Err(ProjectorError::NoPrevious { .. }) => Self::NoPrevious,
            Err(ProjectorError::Paused { .. }) => Self::Paused,
            Err(
                error @ (ProjectorError::Unknown { .. }
                | ProjectorError::UselessPrevious { .. }
                | ProjectorError::Elsewhere { .. }
                | ProjectorError::Refused { .. }
                | ProjectorError::Ended { .. }
                | ProjectorError::Folder { .. }
                | ProjectorError::Open { .. }
                | ProjectorError::Fold { .. }
                | ProjectorError::ShuttingDown),
            ) => Self::Failed(error.to_string()),
        }
    }

    pub(crate) fn outcome(self, projection: &'static str) -> Result<(), ProjectorError> {
        match self {
            Self::Done => Ok(()),
            Self::AlreadyRebuilding => Err(ProjectorError::AlreadyRebuilding { projection }),
            Self::NotRebuilding => Err(ProjectorError::NotRebuilding { projection }),
            Self::NotServing => Err(ProjectorError::NotServing { projection }),
            Self::NoPrevious => Err(ProjectorError::NoPrevious { projection }),
            Self::Paused => Err(ProjectorError::Paused { projection }),
            Self::Failed(reason) => Err(ProjectorError::Refused { projection, reason }),
        }
    }
}

impl Orders {
    pub(crate) fn new(server: Server, projection: &'static str) -> Self {
        Self { server, projection }
    }

    pub(crate) fn place(&self, order: Order) -> io::Result<Uuid> {
        let id = Uuid::now_v7();
        self.run(async |transaction| {
            let insert = "INSERT INTO cairn.projection_orders (id, projection, wanted) VALUES ($1, $2, $3)";
            let insert = sqlx::query(insert).bind(id).bind(self.projection).bind(written(&order));
            insert.execute(&mut **transaction).await.map(|_| id)
        })
    }

    /// The answer to an order, once there is one.
    pub(crate) fn answer_to(&self, id: Uuid) -> io::Result<Option<Answer>> {
        self.run(async |transaction| {
            let take = "DELETE FROM cairn.projection_orders WHERE id = $1 AND answer IS NOT NULL RETURNING answer";
            let answer: Option<String> =
                sqlx::query_scalar(take).bind(id).fetch_optional(&mut **transaction).await?;
            answer.as_deref().map(read).transpose()
        })
    }

    /// Takes an order back; one that is answered by now stays done.
    pub(crate) fn withdraw(&self, id: Uuid) -> io::Result<()> {
        self.run(async |transaction| {
            let delete = sqlx::query("DELETE FROM cairn.projection_orders WHERE id = $1").bind(id);
            delete.execute(&mut **transaction).await.map(drop)
        })
    }

    /// The order that waits longest; those that nobody waits for any more are deleted.
    pub(crate) fn next(&self) -> io::Result<Option<(Uuid, Order)>> {
        self.run(async |transaction| {
            let stale = "DELETE FROM cairn.projection_orders
                 WHERE projection = $1 AND ordered_at < now() - make_interval(secs => $2)";
            let stale = sqlx::query(stale).bind(self.projection).bind(ORDER_PATIENCE.as_secs_f64());
            stale.execute(&mut **transaction).await?;
            let select = "SELECT id, wanted FROM cairn.projection_orders
                 WHERE projection = $1 AND answer IS NULL ORDER BY id LIMIT 1";
            let select = sqlx::query_as(select).bind(self.projection);
            let next: Option<(Uuid, String)> = select.fetch_optional(&mut **transaction).await?;
            next.map(|(id, order)| Ok((id, read(&order)?))).transpose()
        })
    }

    pub(crate) fn answer(&self, id: Uuid, answer: &Answer) -> io::Result<()> {
        self.run(async |transaction| {
            let update = "UPDATE cairn.projection_orders SET answer = $2 WHERE id = $1";
            sqlx::query(update).bind(id).bind(written(answer)).execute(&mut **transaction).await.map(drop)
        })
    }

    pub(crate) fn tell(&self, told: &Told) -> io::Result<()> {
        self.run(async |transaction| {
            let upsert = "INSERT INTO cairn.projections (projection, told) VALUES ($1, $2)
                 ON CONFLICT (tenant, projection) DO UPDATE SET told = $2";
            let upsert = sqlx::query(upsert).bind(self.projection).bind(written(told));
            upsert.execute(&mut **transaction).await.map(drop)
        })
    }

    /// What the process that runs the projection told last.
    pub(crate) fn told(&self) -> io::Result<Told> {
        self.run(async |transaction| {
            let select = sqlx::query_scalar("SELECT told FROM cairn.projections WHERE projection = $1");
            let told: Option<Option<String>> =
                select.bind(self.projection).fetch_optional(&mut **transaction).await?;
            told.flatten().map_or_else(|| Ok(Told::default()), |told| read(&told))
        })
    }

    fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut Transaction<'static, Postgres>) -> sqlx::Result<T>,
    ) -> io::Result<T> {
        crate::generations::transaction(&self.server, work)
    }
}

fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers, names and texts are plain JSON")
}

/// What another process wrote, which may be of another version.
fn read<T: DeserializeOwned>(json: &str) -> sqlx::Result<T> {
    serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()))
}
