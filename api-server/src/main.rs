//! The API server's process.

use std::process::ExitCode;

use clap::Parser;
use codeexec_api::server;
use codeexec_api::settings::Settings;

fn main() -> ExitCode {
    // A wrong setting ends here, with a sentence that names it.
    let settings = Settings::parse();
    server::start_log(&settings);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("codeexec-api: failed to start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(server::run(settings));
    // Whatever still runs in the background is not worth waiting for.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("codeexec-api: {line}");
            }
            ExitCode::FAILURE
        }
    }
}
