//! The operator's process, or, told to `verify-isolation`, a check of the installation.

use std::process::ExitCode;

use clap::Parser;
use codeexec_operator::settings::{LogFormat, Settings};
use codeexec_operator::{operate, verify};
use tracing::error;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    // Not a subcommand of clap's: its settings are other ones, and those of the operator are required.
    if arguments
        .get(1)
        .is_some_and(|argument| argument == verify::COMMAND)
    {
        arguments.remove(1);
        return verify::main(verify::Settings::parse_from(arguments)).await;
    }
    let settings = Settings::parse_from(arguments).with_own_name_server();
    start_log(&settings);
    match operate::run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!(error = %failure, "stopped");
            ExitCode::FAILURE
        }
    }
}

fn start_log(settings: &Settings) {
    // kube logs each refused attach as an error; a session tries many times until its container is up, and
    // logs what matters itself.
    let quiet = format!(
        "kube_client::client::builder=off,{}",
        codeexec_audit::OFF_ELSEWHERE
    );
    let filter = EnvFilter::new(format!("{},{quiet}", settings.log_level));
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = match settings.log_format {
        LogFormat::Json => log.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => log.with_filter(filter).boxed(),
    };
    let audit = codeexec_audit::layer(std::io::stderr);
    tracing_subscriber::registry().with(log).with(audit).init();
}
