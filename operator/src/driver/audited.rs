//! An execution's line in the audit trail: made when it is known how it ended, written off the path.
//!
//! At least one line for each result, whenever the operator dies: it is written before the record gets its labels, and a
//! new leader writes those of results without labels (`retention`).

use codeexec_audit::Execution as Audited;
use codeexec_crds::{CodeExecution, CodeExecutionStatus};

use super::Driver;

impl Driver {
    /// Notes how it ended.
    pub(super) fn audit_end(&mut self, status: &CodeExecutionStatus) {
        let line = Audited::ended(&self.name, &self.uid, &self.execution.spec, status);
        self.audited = Some(line);
    }

    /// Notes the end that stands in an object, whoever wrote it: most likely whoever drove it before, who may have
    /// died of it.
    pub(super) fn ended_elsewhere(&mut self, object: &CodeExecution) {
        self.observed.finished = true;
        if let Some(status) = &object.status {
            self.audit_end(status);
        }
    }

    /// Writes the line, once.
    pub(super) fn write_audit(&mut self) {
        if let Some(line) = self.audited.take() {
            line.write();
        }
    }

    /// Writes the line of one that left before it got a result of ours.
    pub(super) fn audit_what_left(&mut self) {
        if self.observed.gone {
            Audited::deleted(&self.name, &self.uid, &self.execution.spec).write();
        } else {
            self.write_audit();
        }
    }
}
