//! The API server's process, or, told to `new-key`, a maker of API keys.

use std::process::ExitCode;

use clap::Parser;
use codeexec_api::auth::api_keys::command::{COMMAND, NewKey};
use codeexec_api::server;
use codeexec_api::settings::Settings;

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    // Not a subcommand of clap's: the settings of the server mean nothing to it.
    if arguments.get(1).is_some_and(|argument| argument == COMMAND) {
        arguments.remove(1);
        return new_key(&NewKey::parse_from(arguments));
    }
    // A wrong setting ends here, with a sentence that names it.
    let settings = Settings::parse_from(arguments);
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

fn new_key(command: &NewKey) -> ExitCode {
    match command.run(std::io::stdout(), std::io::stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("codeexec-api: failed to write the key: {error}");
            ExitCode::FAILURE
        }
    }
}
