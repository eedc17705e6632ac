//! Writes the generated CRD files into the folder given as the only argument.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(env::args().nth(1).ok_or("usage: crdgen FOLDER")?);
    fs::create_dir_all(&dir)?;
    for file in codeexec_crds::crd_files() {
        fs::write(dir.join(file.name), file.yaml()?)?;
    }
    Ok(())
}
