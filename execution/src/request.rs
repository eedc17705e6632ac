use codeexec_crds::CodeExecutionSpec;
use codeexec_runner::frames::{OutputLimits, Request, RequestFile};

/// The frame that makes a runner run this program.
#[must_use]
pub fn runner_request(uid: &str, spec: &CodeExecutionSpec, limits: OutputLimits) -> Request {
    // Destructured whole, so that a new field of the spec can't be forgotten here.
    let CodeExecutionSpec {
        code,
        language: _,
        timeout_seconds,
        user: _,
        pool: _,
        stdin,
        args,
        env,
        files,
        cancel: _,
        ttl_seconds_after_finished: _,
    } = spec;
    Request {
        uid: uid.to_owned(),
        code: code.clone(),
        stdin: stdin.clone().unwrap_or_default(),
        args: args.clone().unwrap_or_default(),
        env: env
            .iter()
            .flatten()
            .map(|variable| (variable.name.clone(), variable.value.clone()))
            .collect(),
        files: files
            .iter()
            .flatten()
            .map(|file| RequestFile {
                path: file.path.clone(),
                content: file.content.clone(),
            })
            .collect(),
        timeout_ms: u64::try_from(*timeout_seconds).unwrap_or(0) * 1000,
        limits,
        keep: false,
    }
}
