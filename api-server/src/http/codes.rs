//! Every word that an error can have, for programs. A word never changes.

/// A word, and when it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The status of its answers.
    pub status: u16,
    /// The word.
    pub word: &'static str,
    /// When it is said.
    pub meaning: &'static str,
}

const fn code(status: u16, word: &'static str, meaning: &'static str) -> Code {
    Code {
        status,
        word,
        meaning,
    }
}

/// All of them, by status. The OpenAPI document is made of this table, and in builds for tests an answer that it does
/// not have is a panic.
pub const CODES: &[Code] = &[
    code(
        400,
        "invalid_request",
        "the request is wrong; the sentence names the field",
    ),
    code(
        400,
        "policy_violation",
        "the policy does not allow what the program says; the sentence names construct and place",
    ),
    code(400, "rejected", "the cluster finds the execution invalid"),
    code(401, "unauthenticated", "no credential, or one that is not good"),
    code(403, "forbidden", "it is known who asks, and they may not"),
    code(
        404,
        "not_found",
        "there is nothing of this name, or it is another user's",
    ),
    code(405, "method_not_allowed", "the path does not take this method"),
    code(408, "request_timeout", "the body did not come in time"),
    code(413, "body_too_large", "the body is over the limit"),
    code(
        415,
        "unsupported_media_type",
        "the body is not declared as application/json",
    ),
    code(
        422,
        "idempotency_key_reused",
        "the Idempotency-Key was used for another request",
    ),
    code(
        429,
        "rate_limited",
        "the user has begun too many executions within a minute",
    ),
    code(
        429,
        "too_many_concurrent",
        "the user has too many executions under way",
    ),
    code(500, "internal", "a defect of the server"),
    code(
        503,
        "auth_unavailable",
        "who asks can't be verified at the moment",
    ),
    code(
        503,
        "backend_unavailable",
        "what runs the programs can't be reached, or can't count",
    ),
    code(
        503,
        "busy",
        "too many programs wait already, or this one waited too long",
    ),
    code(
        503,
        "deleted",
        "the record was deleted before the program ended; it may have run",
    ),
    code(
        503,
        "evicted",
        "the node evicted its Pod before the program started",
    ),
    code(503, "image_pull", "the executor image could not be pulled"),
    code(
        503,
        "internal_error",
        "codeexec itself failed before the program started",
    ),
    code(
        503,
        "isolation_unavailable",
        "a required layer of isolation is missing",
    ),
    code(
        503,
        "no_result",
        "the execution has no result yet; it may have run",
    ),
    code(503, "node_lost", "the node was lost before the program started"),
    code(503, "not_ready", "programs can't be run here at the moment"),
    code(
        503,
        "out_of_memory",
        "the Pod ran out of memory before the program started",
    ),
    code(
        503,
        "overloaded",
        "the server has too many connections or bodies to deal with; ask again",
    ),
    code(
        503,
        "pod_deleted",
        "somebody deleted its Pod before the program started",
    ),
    code(
        503,
        "quota_exceeded",
        "a quota leaves no room for another execution",
    ),
    code(503, "too_many_streams", "too many executions are being followed"),
    code(503, "unavailable", "the records can't be read at the moment"),
    code(503, "unschedulable", "no node had room"),
];

/// The entry of an answer's status and word.
#[must_use]
pub fn find(status: u16, word: &str) -> Option<&'static Code> {
    CODES
        .iter()
        .find(|code| code.status == status && code.word == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_every_answer_once() {
        assert!(CODES.is_sorted_by(|one, other| (one.status, one.word) < (other.status, other.word)));
    }
}
