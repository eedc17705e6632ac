//! The audit trail of local mode, as its process writes it.

use std::thread::JoinHandle;

use super::*;

/// A server whose log says, beside the trail, no more than where it listens.
struct Quiet {
    process: Child,
    address: String,
    /// Reads on, so that the server never waits for a reader.
    log: Option<JoinHandle<String>>,
}

impl Quiet {
    fn start(runner: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_codeexec-api"))
            .args(["--backend", "local", "--rate-limit", "0", "--runner", runner])
            .args(["--max-concurrent", "1", "--listen", "127.0.0.1:0"])
            .args([
                "--log-level",
                "error,codeexec_api::server=info",
                "--log-format",
                "text",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening address=") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the log ended");
        }
        let (_, address) = line.split_once("listening address=").unwrap();
        Self {
            process,
            address: address.split(' ').next().unwrap().to_owned(),
            log: Some(std::thread::spawn(move || {
                let mut rest = String::new();
                log.read_to_string(&mut rest).unwrap();
                rest
            })),
        }
    }

    fn send(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Everything that it wrote, once it has ended by itself.
    fn stop(mut self) -> String {
        let stop = Command::new("kill").arg(self.process.id().to_string()).status();
        assert!(stop.unwrap().success() && self.process.wait().unwrap().success());
        self.log.take().unwrap().join().unwrap()
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_and_each_execution_leaves_a_line_and_nothing_of_the_program() {
    let runner = built_runner().await;
    tokio::task::spawn_blocking(move || {
        let server = Quiet::start(&runner);
        let code = "print('SECRET')\nraise SystemExit(3)";
        let program = json!({"code": code, "language": "python"}).to_string();
        let ran = body(&server.send("POST /api/execute", &program));
        assert_eq!(ran["exitCode"], 3, "{ran}");
        // One runs, one waits for its turn; both are cancelled.
        let sleeps = json!({"code": "import time; time.sleep(25)", "language": "python"}).to_string();
        let begun = [(); 2].map(|()| body(&server.send("POST /api/executions", &sleeps)));
        for begun in &begun {
            let path = format!("/api/executions/{}", begun["id"].as_str().unwrap());
            server.send(&format!("DELETE {path}"), "");
            wait_until("it is cancelled", || {
                body(&server.send(&format!("GET {path}"), ""))["reason"] == "Cancelled"
            });
        }
        let log = server.stop();
        assert!(!log.contains("SECRET"), "{log}");
        // The rest is text, as was asked for.
        let lines = log.lines().filter(|line| line.starts_with('{'));
        let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |event: &str, id: &Value| -> Vec<Value> {
            let own = lines
                .iter()
                .filter(|line| line["event"] == event && line["execution"] == *id);
            own.cloned().collect()
        };
        let (requests, executions) = (of("request", &ran["id"]), of("execution", &ran["id"]));
        assert_eq!((requests.len(), executions.len()), (1, 1), "{log}");
        let (request, execution) = (&requests[0], &executions[0]);
        assert_eq!(request["code_sha256"], codeexec_execution::code_sha256(code));
        assert_eq!(request["code_sha256"], execution["code_sha256"]);
        assert_eq!(
            (&request["user"], &request["status"]),
            (&execution["user"], &json!(200))
        );
        assert_eq!(
            (&execution["phase"], &execution["reason"], &execution["exit_code"]),
            (&json!("Failed"), &json!("NonZeroExit"), &json!(3))
        );
        assert_eq!(
            (&execution["seccomp"], &execution["stdout_bytes"]),
            (&json!(true), &json!(7))
        );
        assert!(
            execution["run_ms"].is_u64() && execution["vcpu_seconds"].is_f64(),
            "{execution}"
        );
        for begun in &begun {
            let executions = of("execution", &begun["id"]);
            assert_eq!(
                (executions.len(), &executions[0]["phase"]),
                (1, &json!("Cancelled")),
                "{log}"
            );
        }
    })
    .await
    .unwrap();
}
