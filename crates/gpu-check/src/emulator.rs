//! The emulated driver, built: the kernels of the GPU backend as C++ for the host.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use tarrl_cuda::kernels::{COMMON, kernel_sources};

/// The C++ compiler, if there is one.
pub(crate) fn compiler() -> Option<&'static str> {
    ["g++", "clang++", "c++"].into_iter().find(|name| {
        let version =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    })
}

/// Compiles `libcuda.so.1`, `libcublasLt.so.13`, `libcudnn.so.9` and `libnccl.so.2` and returns their folder.
pub(crate) fn build(compiler: &str) -> anyhow::Result<PathBuf> {
    let sources = sources();
    let folder = std::env::temp_dir().join(format!("tarrl-emulator-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    driver(compiler, &folder, &table())?;
    library(compiler, &sources, &[sources.join("cublaslt.cpp")], &folder.join("libcublasLt.so.13"))?;
    library(compiler, &sources, &[sources.join("cudnn.cpp")], &folder.join("libcudnn.so.9"))?;
    nccl(compiler, &folder)?;
    Ok(folder)
}

/// As [`build`], without kernels and products: what moves numbers between ranks and computes nothing.
#[cfg(test)]
pub(crate) fn build_ranks(compiler: &str, folder: &Path) -> anyhow::Result<()> {
    let empty =
        "const Kernel kernels[] = {{\"\", nullptr, false, nullptr}};\nconst unsigned kernel_count = 0;\n";
    driver(compiler, folder, &format!("#include \"host.h\"\n{empty}"))?;
    nccl(compiler, folder)
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cuda/emulator")
}

/// Compiles the driver with these kernels.
fn driver(compiler: &str, folder: &Path, table: &str) -> anyhow::Result<()> {
    let (sources, kernels) = (sources(), folder.join("kernels.cpp"));
    fs::write(&kernels, table).with_context(|| format!("cannot write {}", kernels.display()))?;
    let files = [kernels, sources.join("grid.cpp"), sources.join("driver.cpp")];
    library(compiler, &sources, &files, &folder.join("libcuda.so.1"))
}

fn nccl(compiler: &str, folder: &Path) -> anyhow::Result<()> {
    let sources = sources();
    library(compiler, &sources, &[sources.join("nccl.cpp")], &folder.join("libnccl.so.2"))
}

/// Every kernel source in a namespace of its own, and the list of all kernels.
fn table() -> String {
    let mut text = format!("#include \"host.h\"\n{COMMON}\n");
    let mut entries = String::new();
    for source in kernel_sources() {
        let space = format!("{}{}", source.file, source.element.suffix());
        let definitions = source.definitions();
        let names = definitions.lines().filter_map(|line| line.split(' ').nth(1));
        let clear: String = names.map(|name| format!("#undef {name}\n")).collect();
        write!(text, "{definitions}namespace {space} {{\n{}\n}}\n{clear}", source.body())
            .expect("a string takes everything");
        // Macros of one file do not reach into the next.
        for name in source.macros() {
            writeln!(text, "#undef {name}").expect("a string takes everything");
        }
        for kernel in source.kernels {
            let name = format!("{kernel}{}", source.element.suffix());
            let barriers = source.has_barriers();
            let call = format!("[](void** arguments) {{ apply({space}::{name}, arguments); }}");
            writeln!(entries, "    {{\"{name}\", {call}, {barriers}, sizes({space}::{name})}},")
                .expect("a string takes everything");
        }
    }
    text + "const Kernel kernels[] = {\n"
        + &entries
        + "};\nconst unsigned kernel_count = sizeof kernels / sizeof *kernels;\n"
}

fn library(compiler: &str, include: &Path, sources: &[PathBuf], to: &Path) -> anyhow::Result<()> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let mut command = Command::new(compiler);
    // As on the GPU, products and sums are not contracted.
    command.args(["-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]);
    // Its C++ library stays inside, where it cannot get between NVRTC and the one that NVRTC brings.
    command.args(["-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL"]);
    command.arg(format!("-Wl,-soname,{name}")).arg("-I").arg(include).args(sources).arg("-o").arg(to);
    command.args(["-pthread", "-ldl"]);
    let output = command.output().with_context(|| format!("cannot start {compiler}"))?;
    if !output.status.success() {
        bail!("{compiler} cannot compile the emulator:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
