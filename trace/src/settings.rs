//! Where traces go, and how many.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use http::Uri;

/// The settings of traces, the same for both programs.
#[derive(Clone, Debug, Args)]
pub struct TraceSettings {
    /// OTLP endpoint for traces (HTTP, protobuf), such as http://otel-collector:4318 [default: no traces]
    #[arg(long, env = "CODEEXEC_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<Endpoint>,

    /// Share of the traces that begin here, from 0 to 1; a client's own decision holds for its traces
    #[arg(long, env = "CODEEXEC_TRACE_RATIO", value_name = "RATIO", default_value = "1", value_parser = ratio)]
    pub trace_ratio: f64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            trace_ratio: 1.0,
        }
    }
}

/// Base URL of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Where it takes traces.
    #[must_use]
    pub fn traces(&self) -> String {
        format!("{}/v1/traces", self.0)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text
            .parse()
            .map_err(|error| format!("it is not a URL: {error}"))?;
        match (uri.scheme_str(), uri.host(), uri.query()) {
            (Some("http"), Some(_), None) => Ok(Self(text.trim_end_matches('/').to_owned())),
            _ => Err(
                "it must be http://HOST:PORT; for TLS send to a collector in the cluster, which sends on"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("it must be a number from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_url_with_or_without_a_slash() {
        let traces = |text: &str| text.parse::<Endpoint>().map(|endpoint| endpoint.traces());
        for good in ["http://collector:4318", "http://collector:4318/"] {
            assert_eq!(traces(good).as_deref(), Ok("http://collector:4318/v1/traces"));
        }
        assert_eq!(
            traces("http://[::1]:4318/otlp").as_deref(),
            Ok("http://[::1]:4318/otlp/v1/traces")
        );
        for bad in [
            "",
            "collector:4318",
            "https://collector:4318",
            "/v1/traces",
            "http://c/?x=y",
            "http://a b/",
        ] {
            assert!(traces(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ratio_is_a_share() {
        assert_eq!(ratio("0.25"), Ok(0.25));
        for bad in ["", "-0.1", "1.1", "NaN", "all"] {
            assert!(ratio(bad).is_err(), "{bad}");
        }
    }
}
