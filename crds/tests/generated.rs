//! The chart's CRDs are what the types say.

use std::{fs, path::Path};

#[test]
fn the_crds_in_the_chart_are_the_ones_the_types_generate() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/codeexec/files/crds");
    for file in codeexec_crds::crd_files() {
        let committed = fs::read_to_string(dir.join(file.name)).unwrap_or_default();
        let generated = file.yaml().expect("the types can be written as YAML");
        assert_eq!(
            committed, generated,
            "{} has drifted: run `make generate`",
            file.name
        );
    }
}
