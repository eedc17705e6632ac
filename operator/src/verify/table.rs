//! What was found, as text for people.

use std::fmt::Write;

use codeexec_execution::isolation::Layer;

use super::{Findings, GROUPS, Settings, Tried};

/// Whether every program was held and every required layer is in force.
pub(super) fn holds(required: &[Layer], findings: &Findings) -> bool {
    let Ok(isolation) = &findings.isolation else {
        return false;
    };
    !findings.tried.is_empty()
        && findings.tried.iter().all(|tried| tried.complaints.is_empty())
        && required.iter().all(|layer| layer.is_in_force(isolation))
}

/// The tables, what failed, and the verdict.
pub(super) fn text(settings: &Settings, findings: &Findings) -> String {
    let mut text = format!(
        "Isolation of pool {} in namespace {}\n\n",
        settings.pool, settings.executions_namespace
    );
    layers(&mut text, settings, findings);
    programs(&mut text, &findings.tried);
    let verdict = if holds(&settings.require, findings) {
        "every program was held, and every required layer is in force"
    } else {
        "NOT all of it holds"
    };
    let _ = writeln!(text, "{verdict}");
    text
}

// Writing to a String can't fail, here and below.
fn layers(text: &mut String, settings: &Settings, findings: &Findings) {
    let isolation = match &findings.isolation {
        Ok(isolation) => isolation,
        Err(why) => {
            let _ = writeln!(text, "No Pod reported its layers: {why}\n");
            return;
        }
    };
    let _ = writeln!(text, "{:<15}{:<10}{:<10}FOUND", "LAYER", "REQUIRED", "IN FORCE");
    let yes = |yes| if yes { "yes" } else { "no" };
    for layer in Layer::ALL {
        let (required, in_force) = (settings.require.contains(&layer), layer.is_in_force(isolation));
        let _ = writeln!(
            text,
            "{:<15}{:<10}{:<10}{}",
            layer.as_str(),
            yes(required),
            yes(in_force),
            layer.found(isolation)
        );
        if required && !in_force {
            let _ = writeln!(text, "{:<15}what to do: {}", "", layer.remedy());
        }
    }
    text.push('\n');
}

fn programs(text: &mut String, tried: &[Tried]) {
    if tried.is_empty() {
        let _ = writeln!(
            text,
            "No hostile program was tried, because none would have run\n"
        );
        return;
    }
    let _ = writeln!(text, "{:<15}{:<10}HELD", "PROGRAMS", "TRIED");
    for group in GROUPS {
        let of_group = || tried.iter().filter(|tried| tried.group == group);
        let held = of_group().filter(|tried| tried.complaints.is_empty()).count();
        let _ = writeln!(text, "{:<15}{:<10}{held}", group.to_string(), of_group().count());
    }
    text.push('\n');
    for Tried {
        group,
        name,
        complaints,
    } in tried
    {
        for complaint in complaints {
            let _ = writeln!(text, "FAILED {group}/{name}: {complaint}");
        }
    }
    if tried.iter().any(|tried| !tried.complaints.is_empty()) {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use codeexec_crds::{Isolation, NetworkIsolation, Reachability};
    use codeexec_suite::Group;

    use super::*;

    fn settings(require: &str) -> Settings {
        let require = format!("--require={require}");
        let mut arguments = vec!["verify"];
        if require != "--require=" {
            arguments.push(&require);
        }
        Settings::parse_from(arguments)
    }

    fn findings(complaints: &[&str]) -> Findings {
        Findings {
            isolation: Ok(Isolation {
                seccomp: true,
                no_new_privileges: true,
                landlock_abi: 6,
                network: NetworkIsolation {
                    dns: Reachability::Reachable,
                    ..NetworkIsolation::default()
                },
                ..Isolation::default()
            }),
            tried: vec![Tried {
                group: Group::Network,
                name: "tcp".to_owned(),
                complaints: complaints.iter().map(ToString::to_string).collect(),
            }],
        }
    }

    #[test]
    fn the_table_shows_layers_programs_and_the_verdict() {
        let text = text(&settings("seccomp"), &findings(&[]));
        assert_eq!(
            text,
            "Isolation of pool default in namespace codeexec-executions

LAYER          REQUIRED  IN FORCE  FOUND
seccomp        yes       yes       in force
landlock       no        yes       ABI 6
userNamespace  no        no        missing
networkPolicy  no        no        the Kubernetes API is unknown, metadata unknown, DNS reachable
runtimeClass   no        no        the cluster's default runtime

PROGRAMS       TRIED     HELD
network        1         1
secrets        0         0
runner         0         0

every program was held, and every required layer is in force
"
        );
    }

    #[test]
    fn a_missing_layer_a_program_that_was_not_held_and_no_program_at_all_fail() {
        let require = |layers: &str| settings(layers).require;
        assert!(holds(&require(""), &findings(&[])));
        assert!(!holds(&require("userNamespace"), &findings(&[])));
        assert!(!holds(&require(""), &findings(&["stdout: it connected"])));
        let nothing = Findings {
            tried: Vec::new(),
            ..findings(&[])
        };
        assert!(!holds(&require(""), &nothing));
        let text = text(&settings("runtimeClass"), &findings(&["stdout: it connected"]));
        assert!(text.contains("what to do: install gVisor"), "{text}");
        assert!(
            text.contains("FAILED network/tcp: stdout: it connected"),
            "{text}"
        );
        assert!(text.ends_with("NOT all of it holds\n"), "{text}");
    }
}
