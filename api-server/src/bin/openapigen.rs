//! Writes the API's description into the file given as the only argument.

use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = env::args().nth(1).ok_or("usage: openapigen FILE")?;
    fs::write(path, codeexec_api::openapi::file())?;
    Ok(())
}
