//! What an execution's writes cost etcd, and what that leaves of its output.

use codeexec_crds::{CodeExecutionStatus, StoredBytes};
use jiff::Timestamp;

use super::Driver;
use crate::etcd::{self, Room};

/// What is counted of one execution.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Bytes of its spec and metadata, once they were reckoned.
    object_bytes: Option<u64>,
    /// Its creation is counted.
    creation: bool,
}

impl Driver {
    fn object_bytes(&mut self) -> u64 {
        let execution = &self.execution;
        *self
            .counted
            .object_bytes
            .get_or_insert_with(|| etcd::object_bytes(execution))
    }

    /// Counts a write that changed no output.
    pub(super) fn count_write(&mut self) {
        self.count_creation();
        let bytes = self.object_bytes();
        self.context.etcd.spend(Timestamp::now(), bytes);
    }

    /// Counts its creation, which somebody else wrote. A new leader counts what it finds when it begins.
    pub(super) fn count_creation(&mut self) {
        if !std::mem::replace(&mut self.counted.creation, true) {
            let bytes = self.object_bytes();
            self.context.etcd.spend(Timestamp::now(), bytes);
        }
    }

    /// Cuts the output of a result to what etcd can bear now.
    pub(super) fn fit(&mut self, status: &mut CodeExecutionStatus) -> (Room, StoredBytes) {
        self.count_creation();
        let bytes = self.object_bytes();
        self.context.etcd.fit(Timestamp::now(), bytes, status)
    }

    /// What a result takes that the Kubernetes API found too large, and that was cut since.
    pub(super) fn measure(&mut self, status: &CodeExecutionStatus) -> StoredBytes {
        etcd::stored(self.object_bytes(), status)
    }
}
