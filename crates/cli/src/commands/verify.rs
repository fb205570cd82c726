//! `tarrl verify` and `tarrl supports`: the command line of VNN-LIB 2.0.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use tarrl_interop::onnx;
use tarrl_tensor::{Arithmetic, Cpu};
use tarrl_vnnlib::{Answer, Query, Variable, VerifyOptions, Version, verify};

use crate::limits;
use crate::stdout::{note, outln};

const EXAMPLES: &str = "\
Examples:
  tarrl verify query.vnnlib --network f=encoder.onnx
  tarrl verify query.vnnlib --network f=encoder.onnx --timeout 60

The first line says what is known of the query: `sat`, with a point in the box that was run again in f64; `unsat`, which a
certificate of this program proves; `unknown`; or `timed-out`. After `sat` each variable follows with its type and extents
and one number a line. Queries of version 2.0 and, as solvers read them, of version 1.0 are taken, about one network with
one input and one output. `tarrl export --vnnlib DIR` writes such queries.";

const SUPPORTS_EXAMPLES: &str = "\
Examples:
  tarrl supports --vnnlib-versions
  tarrl supports --onnx-operators";

/// The largest query that is read, in bytes.
const LARGEST: u64 = 1 << 28;

/// Answer a VNN-LIB query by an attack or a certificate
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES, after_help = "`--help` shows examples.")]
pub(crate) struct Verify {
    /// The query
    query: PathBuf,

    /// The network that the query names, as NAME=FILE.onnx
    #[arg(long, value_name = "NAME=FILE", required = true)]
    network: Vec<String>,

    /// Seconds until the answer is `timed-out`
    #[arg(long, value_name = "SECONDS", value_parser = limits::seconds)]
    timeout: Option<f64>,
}

/// Say what queries and networks `tarrl verify` takes
#[derive(Args, Debug)]
#[command(after_long_help = SUPPORTS_EXAMPLES, after_help = "`--help` shows examples.", arg_required_else_help = true)]
pub(crate) struct Supports {
    /// Versions of VNN-LIB, one a line
    #[arg(long)]
    vnnlib_versions: bool,

    /// Versions of the ONNX operators
    #[arg(long)]
    onnx_opset_versions: bool,

    /// Types of elements
    #[arg(long)]
    onnx_element_types: bool,

    /// ONNX operators; certificates have rules for some of them
    #[arg(long)]
    onnx_operators: bool,
}

impl Verify {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let path = self.query.display();
        let text = tarrl_data::read_at_most(&self.query, LARGEST)
            .with_context(|| format!("cannot read {path}; check the path"))?;
        let text = String::from_utf8(text).with_context(|| format!("{path} is no text"))?;
        let query = Query::parse(&text).with_context(|| path.to_string())?;
        let [network] = &self.network[..] else {
            bail!("--network: {path} is about one network, {}; give it once", query.network);
        };
        let Some((name, file)) = network.split_once('=') else {
            bail!(
                "--network {network}: give the name of the query's network and a file, as in f=encoder.onnx"
            );
        };
        if query.version == Version::Two && name != query.network {
            let own = &query.network;
            bail!("--network {network}: the network of {path} is called {own}; write {own}={file}");
        }
        let device = Cpu { arithmetic: Arithmetic::Direct, ..Cpu::default() }.open();
        let network = onnx::read(file.as_ref(), &device)
            .with_context(|| format!("cannot read {file}; check the path"))?;
        let network = network.with_context(|| file.to_owned())?;
        let deadline = self.timeout.map(|seconds| begin + Duration::from_secs_f64(seconds));
        let options = VerifyOptions { deadline, ..VerifyOptions::default() };
        let (sender, receiver) = channel();
        let asked = query.clone();
        // A certificate cannot be interrupted: when the time is up the answer is given, and the process ends.
        std::thread::spawn(move || sender.send(verify(&asked, &network, &options, &device)));
        let found = match deadline {
            None => receiver.recv().ok(),
            Some(deadline) => match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(found) => Some(found),
                Err(RecvTimeoutError::Timeout) => Some(Ok(Answer::TimedOut)),
                Err(RecvTimeoutError::Disconnected) => None,
            },
        };
        match found
            .context("the search for an answer ended without one; please report it with both files")??
        {
            Answer::Unsat => outln!("unsat"),
            Answer::TimedOut => outln!("timed-out"),
            Answer::Unknown(reason) => {
                outln!("unknown");
                note!("{reason}");
            }
            Answer::Sat { x, y } => {
                outln!("sat");
                print(&query.input, &x)?;
                print(&query.output, &y)?;
            }
        }
        Ok(())
    }
}

/// A variable with its values, one a line.
fn print(variable: &Variable, values: &[f64]) -> anyhow::Result<()> {
    let extents: Vec<String> = variable.shape.iter().map(usize::to_string).collect();
    outln!("{} {} [{}]", variable.name, variable.element, extents.join(","));
    for value in values {
        outln!("{}", tarrl_vnnlib::number(*value));
    }
    Ok(())
}

impl Supports {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if self.vnnlib_versions {
            outln!("1.0\n2.0");
        }
        if self.onnx_opset_versions {
            for version in onnx::OPSETS {
                outln!("{version}");
            }
        }
        if self.onnx_element_types {
            outln!("float32\nreal");
        }
        if self.onnx_operators {
            for operator in onnx::operators() {
                outln!("{operator}");
            }
        }
        Ok(())
    }
}
