//! Services that the dead letters and the recovery jobs share with the delivery stage.

use std::sync::Arc;

use super::checkpoint::CheckpointBuffer;
use super::stage_requests::StageRequestQueue;
use crate::clock::Clock;

/// Buffer for changed rows, queue of requests to the stage, and clock.
pub(crate) type RedeliveryDeps = (
    Arc<CheckpointBuffer>,
    Arc<StageRequestQueue>,
    Arc<dyn Clock>,
);
