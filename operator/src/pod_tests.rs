use clap::Parser;
use codeexec_crds::CodeExecutionSpec;

use super::*;

fn settings(more: &[&str]) -> Settings {
    let base = ["codeexec-operator", "--executor-image=example/executor:1"];
    Settings::parse_from(base.iter().chain(more))
}

fn execution() -> CodeExecution {
    let mut execution = CodeExecution::new("cex-1", CodeExecutionSpec::python("print('secret')"));
    execution.metadata.uid = Some("00000000-0000-0000-0000-000000000001".into());
    execution
}

/// The Pod of an execution, as a cluster with user namespaces gets it.
fn prepare(
    settings: &Settings,
    pool: &ExecutorPoolSpec,
    execution: &CodeExecution,
    attempt: u32,
) -> PreparedPod {
    let template = Template {
        settings,
        pool,
        host_users: Some(false),
    };
    template.for_execution(execution, attempt)
}

fn yaml(pod: &PreparedPod) -> String {
    serde_yaml::to_string(pod.object()).expect("a Pod can be written as YAML")
}

/// Compares with a committed file; `UPDATE_SNAPSHOTS=1` writes it instead.
fn assert_snapshot(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).expect("the snapshot can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        committed, text,
        "{name} differs: look at it, then run with UPDATE_SNAPSHOTS=1"
    );
}

#[test]
fn the_pod_is_the_committed_one() {
    let pod = prepare(&settings(&[]), &ExecutorPoolSpec::default(), &execution(), 0);
    assert_snapshot("pod.yaml", &yaml(&pod));
}

#[test]
fn nothing_of_the_program_stands_in_the_pod() {
    let pod = prepare(&settings(&[]), &ExecutorPoolSpec::default(), &execution(), 0);
    assert!(!yaml(&pod).contains("secret"));
}

#[test]
fn on_openshift_no_ids_are_set() {
    let text = yaml(&prepare(
        &settings(&["--run-as=0"]),
        &ExecutorPoolSpec::default(),
        &execution(),
        0,
    ));
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert!(!text.contains(field), "{field}");
    }
    assert!(text.contains("runAsNonRoot: true"));
}

#[test]
fn a_pool_s_own_values_win_over_the_settings() {
    let pool: ExecutorPoolSpec = serde_yaml::from_str(
        "{image: own:1, resources: {limits: {cpu: '2'}}, runtimeClassName: gvisor, hostUsers: false}",
    )
    .expect("a pool");
    let text = yaml(&prepare(&settings(&[]), &pool, &execution(), 0));
    for line in [
        "image: own:1",
        "runtimeClassName: gvisor",
        "hostUsers: false",
        "memory: 512Mi",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!((vcpus(&settings(&[]), &pool) - 2.0).abs() < 1e-9);
}

#[test]
fn a_pod_has_a_volume_only_where_a_size_asks_for_one() {
    let volumes = |more: &[&str]| {
        let pod = prepare(&settings(more), &ExecutorPoolSpec::default(), &execution(), 0);
        let spec = pod.object().spec.clone().expect("a spec");
        (spec.volumes, spec.containers[0].volume_mounts.clone())
    };
    assert_eq!(volumes(&[]), (None, None));
    let (volumes, mounts) = volumes(&["--scratch-size=256Mi"]);
    assert_eq!(volumes.expect("a volume").len(), 1);
    assert_eq!(mounts.expect("a mount")[0].mount_path, "/dev/shm");
}

#[test]
fn a_pod_s_name_tells_its_attempt() {
    for number in [0, 1, 12] {
        assert_eq!(attempt("a-b", &name("a-b", number)), Some(number));
    }
    assert_eq!(attempt("a-b", "exec-c"), None);
}

#[test]
fn the_lowered_deadline_leaves_the_program_its_time_and_the_runner_its_report() {
    assert_eq!(lowered_deadline(Duration::from_millis(2_900), 30), 2 + 1 + 30 + 5);
}
