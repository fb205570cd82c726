//! Ranks over TCP: a star whose center is rank 0.
//!
//! Each rank sends to rank 0 and waits for its answer. Nothing but the standard library is needed; rank 0 carries the traffic
//! of all, so that this is for few ranks or small models. Nothing is encrypted and nobody proves who they are, as between the
//! ranks of MPI and NCCL: use it in a network that you trust.

use crate::error::ParallelError;
use crate::ranks::{Ranks, SumOrder, bytes, numbers};
use crate::tree;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The first bytes of a connection, so that rank 0 does not take a stranger for a rank.
const HELLO: [u8; 8] = *b"TARRL\0\0\x01";

/// How long rank 0 waits for the first bytes of a connection: a rank sends them at once.
const FIRST_BYTES: Duration = Duration::from_secs(5);

/// The longest message of a rank that ends.
const LONGEST_MESSAGE: usize = 1 << 16;

/// Bytes before each message: its kind, its place in the order of calls, its length.
const HEADER: usize = 17;

const GATHER: u8 = 1;
const SUM: u8 = 2;
/// A rank ends, and the same command may succeed when repeated.
const AGAIN: u8 = 3;
/// A rank ends for good.
const ENDED: u8 = 4;

/// A connection to all ranks through rank 0.
#[derive(Debug)]
pub struct TcpRanks {
    rank: usize,
    count: usize,
    /// Of rank 0 one for each other rank, in order; of the others one, to rank 0.
    streams: Vec<TcpStream>,
    /// Calls so far.
    calls: u64,
    timeout: Duration,
}

impl TcpRanks {
    /// Connects rank `rank` of `count`; rank 0 listens at `port`, and the others find it at `host`. A rank that sends nothing for
    /// `timeout` counts as lost.
    ///
    /// # Errors
    /// If the ranks have not come together within `timeout`.
    pub fn connect(
        [rank, count]: [usize; 2],
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> Result<TcpRanks, ParallelError> {
        let streams = match (rank, count) {
            (_, 0) => return Err(ParallelError::Setting("there are 0 ranks; give at least 1".into())),
            (rank, count) if rank >= count => {
                return Err(ParallelError::Setting(format!("there is no rank {rank} of {count}")));
            }
            (_, 1) => Vec::new(),
            (0, _) => TcpRanks::listen(bind(host, port)?, count, timeout)?,
            _ => vec![knock([rank, count], host, port, timeout)?],
        };
        let ranks = TcpRanks { rank, count, streams, calls: 0, timeout };
        for stream in &ranks.streams {
            ranks.prepare(stream).map_err(|error| ParallelError::Meeting(error.to_string()))?;
        }
        Ok(ranks)
    }

    /// The connections of rank 0, which has a listener.
    fn listen(
        listener: TcpListener,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<TcpStream>, ParallelError> {
        let failed = |error: io::Error| ParallelError::Meeting(error.to_string());
        let deadline = Instant::now() + timeout;
        listener.set_nonblocking(true).map_err(failed)?;
        let mut streams: Vec<Option<TcpStream>> = (1..count).map(|_| None).collect();
        while streams.iter().any(Option::is_none) {
            match listener.accept() {
                Ok((stream, _)) => match greet(&stream) {
                    // A stranger.
                    Err(_) => drop(stream),
                    Ok([rank, theirs]) if theirs != count || rank == 0 || rank >= count => {
                        return Err(ParallelError::Disagree(format!(
                            "a process calls itself rank {rank} of {theirs}, but rank 0 knows of {count} ranks; give all the \
                             same WORLD_SIZE"
                        )));
                    }
                    Ok([rank, _]) if streams[rank - 1].is_some() => {
                        return Err(ParallelError::Disagree(format!(
                            "two processes call themselves rank {rank}; give each a RANK of its own"
                        )));
                    }
                    Ok([rank, _]) => streams[rank - 1] = Some(stream),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if Instant::now() > deadline {
                        let missing = streams.iter().position(Option::is_none).map_or(0, |i| i + 1);
                        return Err(ParallelError::Meeting(format!(
                            "rank {missing} of {count} has not called within {} s; start all ranks, each with its RANK and \
                             the same WORLD_SIZE, MASTER_ADDR and MASTER_PORT",
                            timeout.as_secs()
                        )));
                    }
                    sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(streams.into_iter().flatten().collect())
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        // Rank 0 gives up first and says so to the others.
        let patience = if self.rank == 0 { self.timeout } else { 2 * self.timeout };
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))
    }

    /// The rank at the other end of a stream.
    fn other(&self, stream: usize) -> usize {
        if self.rank == 0 { stream + 1 } else { 0 }
    }

    fn send(&mut self, stream: usize, kind: u8, payload: &[u8]) -> Result<(), ParallelError> {
        let written = write(&mut self.streams[stream], kind, self.calls, payload);
        // A rank that ended has said why.
        written.map_err(|error| match self.receive(stream, kind, payload.len()) {
            Err(told @ ParallelError::Ended { .. }) => told,
            _ => self.lost(stream, &error),
        })
    }

    fn receive(&mut self, stream: usize, kind: u8, length: usize) -> Result<Vec<u8>, ParallelError> {
        let rank = self.other(stream);
        let header = self.read(stream, HEADER)?;
        let number =
            |from: usize| u64::from_le_bytes(header[from..from + 8].try_into().expect("eight bytes"));
        let (found, call, size) = (header[0], number(1), number(9));
        if matches!(found, AGAIN | ENDED) && size <= LONGEST_MESSAGE as u64 {
            let message = String::from_utf8_lossy(&self.read(stream, size as usize)?).into_owned();
            return Err(ParallelError::Ended { rank, message, again: found == AGAIN });
        }
        if found != kind || call != self.calls || size != length as u64 {
            return Err(ParallelError::Disagree(format!(
                "rank {rank} sent {size} bytes of kind {found} as call {call}, but rank {} expected {length} of kind {kind} as \
                 call {}; start all ranks with the same program and command",
                self.rank, self.calls
            )));
        }
        self.read(stream, length)
    }

    /// Whether the other ranks are still there, without waiting: for ranks that exchange their numbers by other means and use
    /// this connection to agree on them. Of all ranks the first hears, and of the first all others.
    ///
    /// # Errors
    /// If a connection is closed, or a rank has said that it ends.
    pub fn look(&mut self) -> Result<(), ParallelError> {
        for stream in 0..self.streams.len() {
            let mut kind = [0];
            let socket = &self.streams[stream];
            let set = |nonblocking| socket.set_nonblocking(nonblocking);
            let peeked = set(true).and_then(|()| {
                let peeked = socket.peek(&mut kind);
                set(false).and(peeked)
            });
            match peeked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.lost(stream, &error)),
                Ok(0) => return Err(self.lost(stream, &io::ErrorKind::UnexpectedEof.into())),
                // That is an error whatever was expected.
                Ok(_) if matches!(kind[0], AGAIN | ENDED) => drop(self.receive(stream, kind[0], 0)?),
                // A call of the future, which this rank has not made yet.
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn read(&mut self, stream: usize, length: usize) -> Result<Vec<u8>, ParallelError> {
        let mut bytes = vec![0; length];
        let read = self.streams[stream].read_exact(&mut bytes);
        read.map_err(|error| self.lost(stream, &error)).map(|()| bytes)
    }

    fn lost(&self, stream: usize, error: &io::Error) -> ParallelError {
        let cause = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("it has sent nothing for {} s (--rank-timeout)", self.timeout.as_secs())
            }
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted => "its process has ended".to_owned(),
            _ => error.to_string(),
        };
        ParallelError::Lost { rank: self.other(stream), cause }
    }

    /// Sends a message to rank 0, which makes an answer of all.
    fn call(
        &mut self,
        kind: u8,
        mine: &[u8],
        answer: usize,
        make: impl FnOnce(Vec<Vec<u8>>) -> Vec<u8>,
    ) -> Result<Vec<u8>, ParallelError> {
        self.calls += 1;
        if self.rank > 0 {
            self.send(0, kind, mine)?;
            return self.receive(0, kind, answer);
        }
        let mut all = vec![mine.to_vec()];
        for stream in 0..self.streams.len() {
            all.push(self.receive(stream, kind, mine.len())?);
        }
        let made = make(all);
        for stream in 0..self.streams.len() {
            self.send(stream, kind, &made)?;
        }
        Ok(made)
    }
}

impl Ranks for TcpRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn gather(&mut self, mine: &[u8]) -> Result<Vec<u8>, ParallelError> {
        self.call(GATHER, mine, mine.len() * self.count, |all| all.concat())
    }

    fn sum(&mut self, values: &mut Vec<f32>, _: SumOrder) -> Result<(), ParallelError> {
        let mine = bytes(values);
        let add = |all: Vec<Vec<u8>>| bytes(&tree::tree_sum(all.iter().map(|part| numbers(part)).collect()));
        *values = numbers(&self.call(SUM, &mine, mine.len(), add)?);
        Ok(())
    }

    fn end(&mut self, why: &ParallelError) {
        let kind = if why.is_passing() { AGAIN } else { ENDED };
        let message = match why {
            ParallelError::Ended { message, .. } => message.clone(),
            other => other.to_string(),
        };
        let message = &message.as_bytes()[..message.len().min(LONGEST_MESSAGE)];
        for stream in &mut self.streams {
            // Whoever cannot be reached will see the connection close.
            let _ = stream.set_write_timeout(Some(FIRST_BYTES));
            let _ = write(stream, kind, self.calls, message);
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        for stream in &mut self.streams {
            // Closed with something unread, a connection would drop what was sent.
            let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
            let _ = io::copy(&mut stream.take(1 << 30), &mut io::sink());
        }
        self.streams.clear();
    }
}

fn write(stream: &mut TcpStream, kind: u8, call: u64, payload: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(HEADER + payload.len());
    message.push(kind);
    message.extend(call.to_le_bytes());
    message.extend((payload.len() as u64).to_le_bytes());
    message.extend(payload);
    stream.write_all(&message)
}

/// A listener for the other ranks: on all interfaces, unless the ranks are on this machine alone.
fn bind(host: &str, port: u16) -> Result<TcpListener, ParallelError> {
    let local = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let address = if local { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    TcpListener::bind((address, port)).map_err(|error| {
        ParallelError::Meeting(format!(
            "rank 0 cannot listen at port {port}: {error}; choose another MASTER_PORT"
        ))
    })
}

/// The connection of another rank than 0, which may have to wait for rank 0 to listen.
fn knock(
    [rank, count]: [usize; 2],
    host: &str,
    port: u16,
    timeout: Duration,
) -> Result<TcpStream, ParallelError> {
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    let deadline = Instant::now() + timeout;
    let attempt = || -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, FIRST_BYTES) {
                Ok(mut stream) => {
                    let mut hello = HELLO.to_vec();
                    [rank, count].iter().for_each(|&n| hello.extend((n as u64).to_le_bytes()));
                    stream.write_all(&hello)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    loop {
        match attempt() {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => {
                return Err(ParallelError::Meeting(format!(
                    "rank {rank} does not reach rank 0 at {host}:{port} within {} s: {error}; start rank 0, and check \
                     MASTER_ADDR and MASTER_PORT",
                    timeout.as_secs()
                )));
            }
            Err(_) => sleep(Duration::from_millis(50)),
        }
    }
}

/// The rank and the number of ranks at the other end of a new connection.
fn greet(stream: &TcpStream) -> io::Result<[usize; 2]> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(FIRST_BYTES))?;
    let mut hello = [0; 24];
    (&mut &*stream).read_exact(&mut hello)?;
    if hello[..8] != HELLO {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok([8, 16].map(|at| u64::from_le_bytes(hello[at..at + 8].try_into().expect("eight bytes")) as usize))
}
