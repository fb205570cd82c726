//! Checks without a GPU (`tarrl gpu-check --emulated`): every kernel compiles, and passes the checks on the emulated driver.

use std::process::Command;

use anyhow::{Context, bail};
use tarrl_cuda::kernels::kernel_sources;
use tarrl_cuda::{Compiler, Places};

use crate::progress::show;
use crate::{cudnn, emulator};

/// The architectures that kernels are compiled for: A100, and H100 and H200.
const ARCHS: [&str; 2] = ["sm_80", "sm_90"];

/// Compiles and runs everything that this machine can, and says in one line each what it did not do and why.
///
/// # Errors
/// Fails if a kernel does not compile or a check on the emulator fails.
pub fn check() -> anyhow::Result<()> {
    cudnn::check()?;
    let compiler = match Compiler::find(&Places::usual()) {
        Ok(compiler) => compiler,
        Err(absent) => {
            show!("   did not compile the kernels: {absent}");
            show!("   did not run the conformance suite on the emulator: it needs NVRTC too");
            return Ok(());
        }
    };
    compile_all(compiler)?;
    let Some(host) = emulator::compiler() else {
        show!("   did not run the conformance suite on the emulator: there is no g++, clang++ or c++");
        return Ok(());
    };
    run_emulated(host)
}

fn compile_all(compiler: Compiler) -> anyhow::Result<()> {
    for arch in ARCHS {
        show!(
            "   NVRTC {}, {arch}: registers of each kernel, bytes of stack and spills if any",
            compiler.version()
        );
        let (mut kernels, mut spilling) = (0, 0);
        for source in kernel_sources() {
            let compiled = compiler.compile(&source, arch)?;
            let usage = usage(&compiled.log);
            if usage.len() != source.kernels.len() {
                show!("   {}{}: the compiler did not tell", source.file, source.element.suffix());
            }
            kernels += source.kernels.len();
            spilling += usage.iter().filter(|kernel| kernel.spills > 0).count();
            let shown: Vec<String> = usage.iter().map(Usage::shown).collect();
            show!("   {}{}: {}", source.file, source.element.suffix(), shown.join(", "));
        }
        show!("   {kernels} kernels for {arch}, {spilling} of them spill registers");
    }
    Ok(())
}

/// What the assembler said of one kernel.
#[derive(Debug, Default, PartialEq)]
struct Usage {
    name: String,
    registers: usize,
    stack: usize,
    spills: usize,
}

impl Usage {
    fn shown(&self) -> String {
        let Usage { name, registers, stack, spills } = self;
        let plain = format!("{name} {registers}");
        if stack + spills == 0 { plain } else { format!("{plain} (stack {stack}, spills {spills})") }
    }
}

/// Reads the lines of `ptxas --verbose`.
fn usage(log: &str) -> Vec<Usage> {
    let mut kernels: Vec<Usage> = Vec::new();
    for line in log.lines() {
        let number_before = |word: &str| -> Option<usize> {
            line.split(word)
                .next()
                .filter(|front| front.len() < line.len())?
                .split_whitespace()
                .next_back()?
                .parse()
                .ok()
        };
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let name = rest.split('\'').next().unwrap_or_default().to_owned();
            kernels.push(Usage { name, ..Usage::default() });
        } else if let Some(kernel) = kernels.last_mut() {
            kernel.registers = number_before(" registers").unwrap_or(kernel.registers);
            kernel.stack = number_before(" bytes stack frame").unwrap_or(kernel.stack);
            kernel.spills = number_before(" bytes spill stores").unwrap_or(kernel.spills);
        }
    }
    kernels
}

/// In a process of its own, in which the emulator is the driver.
fn run_emulated(host: &str) -> anyhow::Result<()> {
    let folder = emulator::build(host)?;
    show!("   emulator built with {host}; the conformance suite on it:");
    let program = std::env::current_exe().context("cannot find this program to start it again")?;
    let mut command = Command::new(program);
    command
        .args(["gpu-check", "--only", "conformance,agreement,replay,steps,ranks", "--dry"])
        .env("TARRL_CUDA_LIBRARIES", &folder);
    let status = command.status().context("cannot start this program again")?;
    if !status.success() {
        bail!(
            "the suite on the emulator ended with {status}; see above. The emulator is kept in {}",
            folder.display()
        );
    }
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_usage_is_parsed() {
        let log = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'fill_w4' for 'sm_90'
ptxas info    : Function properties for fill_w4
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 14 registers, used 0 barriers
ptxas info    : Compiling entry function 'normal_f64' for 'sm_90'
    40 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers";
        let found = usage(log);
        assert_eq!(found[0].shown(), "fill_w4 14");
        assert_eq!(found[1].shown(), "normal_f64 40 (stack 40, spills 8)");
    }
}
