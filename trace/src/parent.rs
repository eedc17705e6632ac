//! The W3C header `traceparent`, by which one process tells another which span its own belong under.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// The header's name.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The context that a header names. One that is missing or malformed names none: a new trace begins.
pub(crate) fn context(traceparent: Option<&str>) -> Context {
    let carrier: HashMap<String, String> = traceparent
        .map(|value| (TRACEPARENT.to_owned(), value.to_owned()))
        .into_iter()
        .collect();
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

/// The header that names a context's span, if it has one.
pub(crate) fn traceparent(context: &Context) -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(context, &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// The header for what is done on behalf of the current request, if that is traced.
#[must_use]
pub fn current() -> Option<String> {
    Context::map_current(traceparent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_header_is_passed_on_as_it_is() {
        assert_eq!(traceparent(&context(Some(HEADER))).as_deref(), Some(HEADER));
    }

    #[test]
    fn what_is_no_header_names_nothing() {
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for wrong in [None, Some(""), Some("00-xyz"), Some(zeros), Some(&HEADER[..40])] {
            assert_eq!(traceparent(&context(wrong)), None, "{wrong:?}");
        }
        assert_eq!(current(), None);
    }
}
