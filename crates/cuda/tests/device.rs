//! What can be tested on any machine, and the conformance suite where there is a GPU.

use tarrl_cuda::{Absent, Compiler, Cuda, Places, programs::programs};
use tarrl_tensor::{DType, conformance};

#[test]
fn what_is_missing_is_a_value_and_never_a_panic() {
    match tarrl_cuda::open(0) {
        Ok(device) => println!("did not test a missing GPU: {} is here", device.name()),
        Err(absent) => {
            let message = absent.to_string();
            assert!(message.contains("install") || message.contains("nvidia-smi"), "{message}");
        }
    }
}

#[test]
fn without_folders_only_the_loader_is_asked() {
    let nowhere = Cuda { places: Places::default(), ..Cuda::new(0) };
    match nowhere.open() {
        Ok(gpu) => println!("did not test a missing driver: {} is here", gpu.facts().name),
        Err(Absent::NoDriver { looked }) => assert!(looked.is_empty()),
        Err(other) => println!("did not test a missing driver: {other}"),
    }
}

#[test]
fn an_ordinal_beyond_all_gpus_is_an_error() {
    let Err(absent) = Cuda::new(4096).open() else { panic!("no machine has so many GPUs") };
    assert!(!absent.to_string().is_empty());
}

#[test]
fn the_kernels_compile_where_there_is_a_compiler() {
    let compiler = match Compiler::find(&Places::usual()) {
        Ok(compiler) => compiler,
        Err(absent) => return println!("did not compile the kernels: {absent}"),
    };
    for program in programs().filter(|program| ["layout", "softmax"].contains(&program.file)) {
        let compiled = compiler.compile(&program, "sm_90").unwrap();
        assert!(compiled.cubin.starts_with(b"\x7fELF"), "{}", program.file);
    }
}

#[test]
fn a_gpu_conforms() {
    let device = match tarrl_cuda::open(0) {
        Ok(device) => device,
        Err(absent) => return println!("did not run on a GPU: {absent}"),
    };
    for dtype in [DType::F32, DType::F64, DType::Bf16].into_iter().filter(|&dtype| device.computes(dtype)) {
        let report = conformance::run(&device, dtype);
        assert!(report.failures.is_empty(), "{dtype:?}: {report}");
    }
}
