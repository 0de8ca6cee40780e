//! Servers to be probed: nginx, and servers of one connection that do what a test wants.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::Instant;

use rollcall::config::model::{HttpProbe, ProbeKind};

use crate::ns::{Namespace, PATIENCE};
use crate::probes::run;

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server whose only connection is given to `serve`.
pub fn server(ns: &Namespace, serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    ns.run(|| {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(listener.accept().unwrap().0));
        address
    })
}

/// Reads the request's head, so that closing does not reset the connection.
pub fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        request.push(byte[0]);
    }
    String::from_utf8(request).unwrap()
}

/// A server that answers one request with these bytes.
pub fn answering(ns: &Namespace, answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    server(ns, move |mut stream| {
        read_request(&mut stream);
        // The probe may leave before it has read all.
        let _ = stream.write_all(&answer);
    })
}

/// nginx on ports 8080 (HTTP, both families) and 8443 (HTTPS) of its own namespace.
pub struct Nginx {
    pub ns: Namespace,
    process: Child,
    pub files: tempfile::TempDir,
}

impl Nginx {
    pub fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let dir = files.path().display();
        let ns = Namespace::new();
        ns.sh(&format!(
            "cd {dir}
             echo subjectAltName=DNS:shop.test > extensions
             openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
             openssl req -newkey rsa:2048 -nodes -subj /CN=shop.test -keyout key.pem -out request.pem
             openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 2 -extfile extensions -out cert.pem"
        ));
        let configuration = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;
             events {{}}
             http {{
                 access_log off;
                 client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
                 uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
                 server {{
                     listen 127.0.0.1:8080; listen [::1]:8080; listen 127.0.0.1:8443 ssl;
                     ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
                     location = /ok {{ return 200 'all is ok'; }}
                     location = /busy {{ return 503; }}
                     location = /moved {{ return 302 /ok; }}
                     location = /echo {{ return 200 'host=$http_host agent=$http_user_agent sni=$ssl_server_name.'; }}
                 }}
             }}"
        );
        let path = files.path().join("nginx.conf");
        std::fs::write(&path, configuration).unwrap();
        let process = ns.run(|| Command::new("nginx").arg("-c").arg(path).spawn().unwrap());
        let nginx = Self { ns, process, files };
        let end = Instant::now() + PATIENCE;
        while run(&nginx.ns, ProbeKind::Tcp, nginx.plain()).is_err() {
            assert!(Instant::now() < end, "nginx does not start");
        }
        nginx
    }

    pub fn plain(&self) -> SocketAddr {
        (LOOPBACK, 8080).into()
    }

    pub fn secure(&self) -> SocketAddr {
        (LOOPBACK, 8443).into()
    }

    pub fn check(&self, to: SocketAddr, http: HttpProbe) -> Result<(), String> {
        run(&self.ns, ProbeKind::Http(http), to)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
