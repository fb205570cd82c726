//! The HTTP client of `tarrl data fetch`.

use std::time::Duration;

use tarrl_data::Delivery;

/// Asks an address for a file as it lies on the server, not packed once more for the way.
pub(super) fn ask(url: &str) -> Result<Delivery, String> {
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .timeout_recv_body(Some(Duration::from_secs(3600)));
    let agent: ureq::Agent = config.build().into();
    let response = agent.get(url).header("Accept-Encoding", "identity").call().map_err(|e| e.to_string())?;
    let total = response.body().content_length();
    Ok(Delivery { total, body: Box::new(response.into_body().into_reader()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread;

    /// The address of a web server on this machine that answers one request, and the head of that request.
    fn serve(answer: &'static str) -> (String, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/file", listener.local_addr().unwrap());
        let request = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(|line| line.ok());
            let head = lines.take_while(|line| !line.is_empty()).collect();
            stream.write_all(answer.as_bytes()).unwrap();
            head
        });
        (address, request)
    }

    #[test]
    fn a_file_comes_with_its_length_and_unpacked_for_nobody() {
        let (address, request) =
            serve("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
        let mut delivery = ask(&address).unwrap();
        let mut text = String::new();
        delivery.body.read_to_string(&mut text).unwrap();
        assert_eq!((delivery.total, text.as_str()), (Some(5), "hello"));
        let head = request.join().unwrap();
        assert_eq!(head[0], "GET /file HTTP/1.1");
        assert!(head.iter().any(|line| line.eq_ignore_ascii_case("accept-encoding: identity")), "{head:?}");
    }

    #[test]
    fn a_broken_connection_is_an_error_of_the_body() {
        let (address, _) = serve("HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\nhello");
        let mut delivery = ask(&address).unwrap();
        assert_eq!(delivery.total, Some(50));
        assert!(delivery.body.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn what_the_server_refuses_is_said() {
        let (address, _) =
            serve("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let cause = ask(&address).err().unwrap();
        assert!(cause.contains("503"), "{cause}");
        // A port that was free a moment ago, so that the connection is refused.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cause = ask(&format!("http://127.0.0.1:{port}/file")).err().unwrap();
        assert!(cause.to_lowercase().contains("refused"), "{cause}");
    }
}
