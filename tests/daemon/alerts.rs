//! Alerts of the real daemon: told to real receivers, in steps, once, until they are over; receivers that misbehave harm
//! nobody else.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use lb_tests::testbed::poll;
use lb_tests::testbed::process::Process;
use lb_tests::testbed::receiver::Receiver;
use serde_json::Value;

use crate::stage::{START, Stage};

/// What a dead `b1` is told as, in one of its services.
pub const DOWN: &str = "backend_down/web4/b1";

/// A route of the configuration.
fn route(name: &str, kind: &str, more: &str) -> String {
    format!("\n[[alert_route]]\nname = {name:?}\ntype = {kind:?}\n{more}\n")
}

pub fn webhook(name: &str, receiver: &Receiver, more: &str) -> String {
    route(name, "webhook", &format!("url = {:?}\n{more}", receiver.url()))
}

/// The daemon with these routes, every member in rotation.
#[track_caller]
fn start(stage: &mut Stage, routes: &[String]) {
    stage.rollcall.write_text(&(stage.file_text() + &routes.concat()));
    stage.start();
}

pub fn alerts(stage: &Stage) -> Value {
    stage.rollcall.json(&stage.bed, &["alerts"])
}

#[test]
fn dead_backend_is_told_in_steps_and_over_when_it_is_back() {
    let mut stage = Stage::before_start();
    let (first, second) = (Receiver::start(&stage.bed), Receiver::start(&stage.bed));
    // Where `nobody` may write.
    let file = stage.bed.scratch.path("told");
    std::fs::write(&file, "").expect("the folder is writable");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).expect("it is ours");
    let script = format!("{{ id -un; id -Gn; env; cat; }} >>{}", file.display());
    let command = route("page", "command", &format!("command = [\"/bin/sh\", \"-c\", {script:?}]"));
    let labelled = webhook("first", &first, "labels = { site = \"fra1\" }");
    start(&mut stage, &[labelled, webhook("second", &second, "after = \"5s\""), command]);
    assert_eq!(alerts(&stage)["firing"], Value::Array(vec![]));

    stage.nginx[0].kill();
    let told = first.wait_for(START, "firing", DOWN);
    assert_eq!(told["schema"], "rollcall.alert/v1");
    assert_eq!((&told["severity"], &told["condition"]), (&"warning".into(), &"backend_down".into()));
    assert_eq!((&told["service"], &told["backend"]), (&"web4".into(), &"b1".into()));
    assert_eq!((&told["labels"]["site"], &told["route"]), (&"fra1".into(), &"first".into()));
    assert!(told["summary"].as_str().is_some_and(|s| s.contains("connection refused")), "{told:#}");
    assert_eq!(told["playbook"], "docs/playbook.md#backend_down");

    let escalated = second.wait_for(START, "firing", DOWN);
    let time = |value: &Value| value.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()).expect("a time");
    let delivered = |name: &str| {
        // The receiver knows it a moment before the daemon does.
        poll::until(START, &format!("{name} has it"), || {
            let shown = alerts(&stage);
            let alert = shown["firing"].as_array().expect("a list").iter().find(|a| a["key"] == DOWN);
            let told = alert.and_then(|a| a["told"].as_array()).into_iter().flatten().find(|t| t["route"] == name);
            let at = told.filter(|told| told["delivered"].is_string()).map(|told| time(&told["delivered"]));
            at.ok_or_else(|| format!("{shown:#}"))
        })
    };
    let waited = delivered("second").as_millisecond() - time(&escalated["fired"]).as_millisecond();
    assert!(waited >= 5000, "{waited} ms after it fired");
    assert!(delivered("first") < delivered("second"));

    let text = poll::until(START, "the program's output", || {
        let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
        if text.contains(&format!("\"key\":\"{DOWN}\"")) { Ok(text) } else { Err(text) }
    });
    assert!(text.starts_with("nobody\nnogroup\n"), "neither root nor any of root's groups: {text}");
    assert!(
        !text.contains("HOME=") && !text.contains("ROLLCALL_"),
        "the daemon's environment is not passed on: {text}"
    );

    stage.nginx[0].restart(&stage.bed);
    for receiver in [&first, &second] {
        let over = receiver.wait_for(START, "resolved", DOWN);
        assert_eq!((&over["fired"], over["ended"].is_string()), (&told["fired"], true));
        let firing = receiver.all().iter().filter(|m| m["status"] == "firing" && m["key"] == DOWN).count();
        assert_eq!(firing, 1, "told once");
    }
    poll::until(START, "no alert", || {
        let shown = alerts(&stage);
        if shown["firing"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(format!("{shown:#}")) }
    });
    poll::until(START, "the alert in the history", || {
        let history = stage.rollcall.json(&stage.bed, &["backend", "show", "b1"]);
        let events = history["backends"][0]["events"].as_array().cloned().unwrap_or_default();
        let seen = |kind: &str| events.iter().any(|e| e["kind"] == kind);
        let all = ["alert_fired", "alert_delivered", "alert_resolved"].into_iter().all(seen);
        if all { Ok(()) } else { Err(format!("{events:#?}")) }
    });
}

#[test]
fn receivers_that_misbehave_are_told_of_and_harm_nobody() {
    let mut stage = Stage::before_start();
    let good = Receiver::start(&stage.bed);
    let elsewhere = Receiver::start(&stage.bed);
    let answer = format!("HTTP/1.1 307 Elsewhere\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url());
    let bad = [
        ("redirects", Receiver::answering(&stage.bed, answer.leak())),
        ("hangs", Receiver::hanging(&stage.bed)),
        ("floods", Receiver::flooding(&stage.bed)),
    ];
    let mut routes = vec![webhook("good", &good, "")];
    routes.extend(bad.iter().map(|(name, receiver)| webhook(name, receiver, "")));
    start(&mut stage, &routes);

    let tested = stage.rollcall.cli(&stage.bed, &["alert", "test", "--output", "json"]);
    assert_eq!(tested.code, 1, "{tested:?}");
    let results: Value = serde_json::from_str(&tested.stdout).expect("JSON");
    let taken = |name: &str| {
        results["results"].as_array().expect("a list").iter().any(|r| r["route"] == name && r["delivered"] == true)
    };
    assert_eq!(["good", "redirects", "hangs", "floods"].map(taken), [true, false, false, false], "{results:#}");
    assert_eq!(stage.rollcall.cli(&stage.bed, &["alert", "test", "good"]).code, 0);
    assert_eq!(stage.rollcall.cli(&stage.bed, &["alert", "test", "none"]).code, 66);
    assert_eq!(good.all().iter().filter(|m| m["status"] == "test").count(), 2);

    stage.nginx[0].kill();
    good.wait_for(Duration::from_secs(5), "firing", DOWN);
    for (name, _) in &bad {
        let told = good.wait_for(START, "firing", &format!("route_failing/{name}"));
        assert_eq!(told["severity"], "critical");
    }
    let status = stage.rollcall.status(&stage.bed);
    let warnings = status["warnings"].to_string();
    for (name, _) in &bad {
        assert!(warnings.contains(&format!("the alert route {name} (webhook) does not work")), "{warnings}");
    }
    assert!(elsewhere.all().is_empty(), "a redirect was followed");

    // A route that is mended in the file works at once, and its trouble is over.
    let text = stage.file_text();
    let mended = bad.iter().fold(text, |text, (_, receiver)| text.replace(&receiver.url(), &elsewhere.url()));
    stage.rollcall.write_text(&mended);
    assert_eq!(stage.rollcall.cli(&stage.bed, &["reload"]).code, 0);
    elsewhere.wait_for(START, "firing", DOWN);
    good.wait_for(START, "resolved", "route_failing/hangs");
}

#[test]
fn restart_repeats_nothing_and_tells_what_was_over_meanwhile() {
    let mut stage = Stage::before_start();
    let receiver = Receiver::start(&stage.bed);
    start(&mut stage, &[webhook("hook", &receiver, "")]);
    stage.nginx[0].kill();
    let told = receiver.wait_for(START, "firing", DOWN);
    // Told of all four services, and that is recorded.
    poll::until(START, "the record", || {
        let shown = alerts(&stage);
        let told = |a: &Value| a["told"][0]["times"] == 1;
        let all = shown["firing"].as_array().is_some_and(|all| all.len() == 4 && all.iter().all(told));
        if all { Ok(()) } else { Err(format!("{shown:#}")) }
    });
    let before = receiver.all().len();
    stage.rollcall.kill();
    stage.rollcall.run(&stage.bed);
    stage.rollcall.wait_for(&stage.bed, START, "b1 out", |status| status["settled"] == true);
    poll::until(START, "the same alert", || {
        let shown = alerts(&stage);
        let same = |a: &Value| a["key"] == DOWN && a["fired"] == told["fired"] && a["told"][0]["times"] == 1;
        if shown["firing"].as_array().is_some_and(|all| all.iter().any(same)) { Ok(()) } else { Err(shown.to_string()) }
    });
    stage.rollcall.kill();
    stage.nginx[0].restart(&stage.bed);
    stage.start();
    let over = receiver.wait_for(Duration::from_secs(60), "resolved", DOWN);
    assert_eq!(over["fired"], told["fired"]);
    let after: Vec<Value> = receiver.all().split_off(before);
    assert!(after.iter().all(|m| m["status"] == "resolved"), "{after:#?}");
}

/// A certificate of an authority of its own, and nginx with it on the edge's loopback.
#[track_caller]
fn https(stage: &Stage) -> (String, std::path::PathBuf, Process) {
    let folder = stage.bed.scratch.path("https");
    std::fs::create_dir_all(&folder).expect("the folder is writable");
    let script = "set -e
        echo subjectAltName=IP:127.0.0.1 >extensions
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=hook -keyout key.pem -out request.pem
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 2 -extfile extensions -out cert.pem";
    let made = std::process::Command::new("sh").args(["-c", script]).current_dir(&folder).output();
    assert!(made.as_ref().is_ok_and(|o| o.status.success()), "{made:?}");
    let free = stage.bed.edge.enter(|| std::net::TcpListener::bind("127.0.0.1:0")).expect("the loopback is up");
    let address = free.local_addr().expect("it is bound");
    drop(free);
    let dir = folder.display();
    let text = format!(
        "daemon off; user root; pid {dir}/pid; events {{}} http {{ access_log off; client_body_temp_path {dir}/body;
         proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
         server {{ listen {address} ssl; ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
         location / {{ return 204; }} }} }}"
    );
    std::fs::write(folder.join("nginx.conf"), text).expect("the folder is writable");
    let mut command = stage.bed.edge.command("nginx");
    command.arg("-p").arg(&folder).arg("-e").arg(folder.join("error.log")).arg("-c").arg(folder.join("nginx.conf"));
    let mut process = Process::spawn("nginx https", &mut command, &folder.join("log"));
    poll::until(START, "nginx accepts connections", || {
        assert!(process.is_running(), "{}", process.tail());
        stage.bed.edge.enter(|| std::net::TcpStream::connect(address)).map(drop).map_err(|e| e.to_string())
    });
    (format!("https://{address}/hook"), folder.join("ca.pem"), process)
}

#[test]
fn https_webhook_is_trusted_only_with_a_certificate_of_a_known_authority() {
    let mut stage = Stage::before_start();
    let (url, authority, _nginx) = https(&stage);
    let text = stage.file_text() + &route("hook", "webhook", &format!("url = {url:?}"));
    stage.rollcall.write_text(&text);
    let authority = authority.to_str().expect("the folder has a plain name");
    for (environment, code) in [(vec![], 1), (vec![("SSL_CERT_FILE", authority)], 0)] {
        let _daemon = stage.spawn(&environment);
        stage.rollcall.wait_for_all(&stage.bed, START);
        let tested = stage.rollcall.cli(&stage.bed, &["alert", "test"]);
        assert_eq!(tested.code, code, "{tested:?}");
        assert_eq!(tested.stdout.contains("UnknownIssuer"), code == 1, "{tested:?}");
    }
}

#[test]
fn alertmanager_has_the_alert_until_it_is_over() {
    let mut stage = Stage::before_start();
    let folder = stage.bed.scratch.path("alertmanager");
    std::fs::create_dir_all(&folder).expect("the folder is writable");
    let file = folder.join("alertmanager.yml");
    std::fs::write(&file, "route: { receiver: none }\nreceivers: [{ name: none }]\n").expect("the folder is writable");
    // A port that nobody has: it takes none by itself.
    let free = stage.bed.edge.enter(|| std::net::TcpListener::bind("127.0.0.1:0")).expect("the loopback is up");
    let address = free.local_addr().expect("it is bound");
    drop(free);
    let mut command = stage.bed.edge.command("prometheus-alertmanager");
    command.arg(format!("--config.file={}", file.display())).arg(format!("--storage.path={}", folder.display()));
    command.arg(format!("--web.listen-address={address}")).arg("--cluster.listen-address=");
    let mut server = Process::spawn("prometheus-alertmanager", &mut command, &folder.join("log"));
    let ask = |path: &str| -> Result<Value, String> {
        let url = format!("http://{address}{path}");
        let output = stage.bed.edge.command("curl").args(["-sSf", "--max-time", "5", &url]).output();
        let output = output.map_err(|e| e.to_string())?;
        serde_json::from_slice(&output.stdout).map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
    };
    poll::until(START, "Alertmanager's answer", || {
        assert!(server.is_running(), "{}", server.tail());
        ask("/api/v2/status")
    });
    let find = |path: &str| {
        let all = ask(path)?;
        let found = all.as_array().into_iter().flatten().find(|a| a["labels"]["key"] == DOWN).cloned();
        Ok::<_, String>((found, all))
    };
    let more = format!("url = \"http://{address}\"\nlabels = {{ site = \"fra1\" }}");
    let text = stage.file_text() + &route("am", "alertmanager", &more);
    stage.rollcall.write_text(&text);
    stage.rollcall.run(&stage.bed);
    stage.rollcall.wait_for_all(&stage.bed, START);

    stage.nginx[0].kill();
    let alert = poll::until(START, "the alert in Alertmanager", || {
        let (found, all) = find("/api/v2/alerts")?;
        found.ok_or_else(|| format!("{all:#}"))
    });
    assert_eq!(alert["status"]["state"], "active");
    let labels = &alert["labels"];
    let wanted = [("alertname", "backend_down"), ("severity", "warning"), ("service", "web4"), ("site", "fra1")];
    for (name, value) in wanted {
        assert_eq!(labels[name], value, "{name}: {alert:#}");
    }
    let ends: jiff::Timestamp = alert["endsAt"].as_str().and_then(|t| t.parse().ok()).expect("a time");
    let left = ends.as_second() - jiff::Timestamp::now().as_second();
    assert!((60..=240).contains(&left), "it stands for {left} s, and is told again each 60 s");

    stage.nginx[0].restart(&stage.bed);
    poll::until(START, "no alert in Alertmanager", || {
        let (found, _) = find("/api/v2/alerts?active=true&silenced=true&inhibited=true")?;
        found.map_or(Ok(()), |alert| Err(format!("{alert:#}")))
    });
}
