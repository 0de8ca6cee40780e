//! nginx as a backend: every answer names its server, in the header `x-backend` and as the body of `/`.

use std::path::PathBuf;
use std::time::Duration;

use crate::testbed::bed::Bed;
use crate::testbed::poll;
use crate::testbed::process::Process;

/// Port that backends listen on.
pub const PORT: u16 = 8080;

/// One nginx in the namespace of one backend.
pub struct Nginx {
    name: String,
    index: usize,
    configuration: PathBuf,
    process: Process,
}

impl Nginx {
    /// Starts nginx on every backend host, named b1, b2, ….
    #[track_caller]
    pub fn start_all(bed: &Bed) -> Vec<Self> {
        (0..bed.backends.len()).map(|index| Self::start(bed, index)).collect()
    }

    /// Starts nginx on the backend host `index`, from 0.
    #[track_caller]
    pub fn start(bed: &Bed, index: usize) -> Self {
        let name = format!("b{}", index + 1);
        let folder = bed.scratch.path(&format!("nginx-{name}"));
        let files = bed.scratch.path("files");
        for path in [&folder, &files] {
            std::fs::create_dir_all(path).expect("the testbed's folder is writable");
        }
        let configuration = folder.join("nginx.conf");
        let text = CONFIGURATION
            .replace("@FOLDER@", &folder.display().to_string())
            .replace("@FILES@", &files.display().to_string())
            .replace("@NAME@", &name)
            .replace("@PORT@", &PORT.to_string());
        std::fs::write(&configuration, text).expect("the testbed's folder is writable");
        let process = spawn(bed, &name, index, &configuration);
        let mut nginx = Self { name, index, configuration, process };
        nginx.wait_until_it_accepts(bed);
        nginx
    }

    /// Its name, as it appears in answers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its master's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills it at once, workers and all.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`Self::kill`].
    #[track_caller]
    pub fn restart(&mut self, bed: &Bed) {
        self.process.kill();
        self.process = spawn(bed, &self.name, self.index, &self.configuration);
        self.wait_until_it_accepts(bed);
    }

    /// Leaves it running when the guard goes.
    pub fn detach(&mut self) {
        self.process.detach();
    }

    fn wait_until_it_accepts(&mut self, bed: &Bed) {
        let what = format!("nginx {} accepts connections", self.name);
        poll::until(Duration::from_secs(10), &what, || {
            assert!(self.process.is_running(), "nginx {} ended: {}", self.name, self.process.tail());
            let connected = bed.backends[self.index].enter(|| std::net::TcpStream::connect(("127.0.0.1", PORT)));
            connected.map(drop).map_err(|e| e.to_string())
        });
    }
}

fn spawn(bed: &Bed, name: &str, index: usize, configuration: &std::path::Path) -> Process {
    let folder = configuration.parent().expect("it has a folder");
    let mut command = bed.backends[index].command("nginx");
    command.arg("-p").arg(folder).arg("-e").arg(folder.join("error.log")).arg("-c").arg(configuration);
    Process::spawn(&format!("nginx {name}"), &mut command, &folder.join("output.log"))
}

/// `reuseport` is left out on purpose: a restart must find the port free as any server's would be.
const CONFIGURATION: &str = "\
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 8192;
pid @FOLDER@/nginx.pid;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_timeout 300s;
    keepalive_requests 100000000;
    sendfile on;
    default_type application/octet-stream;
    client_body_temp_path @FOLDER@/body;
    proxy_temp_path @FOLDER@/proxy;
    fastcgi_temp_path @FOLDER@/fastcgi;
    uwsgi_temp_path @FOLDER@/uwsgi;
    scgi_temp_path @FOLDER@/scgi;
    server {
        listen 0.0.0.0:@PORT@ backlog=4096;
        listen [::]:@PORT@ ipv6only=on backlog=4096;
        add_header x-backend @NAME@ always;
        location = / { return 200 @NAME@; }
        location /files/ { alias @FILES@/; }
    }
}
";
