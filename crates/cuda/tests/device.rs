//! What can be tested on any machine, and the conformance suite where there is a GPU.

use tarrl_cuda::{Compiler, Cuda, CudaError, Places, kernels::kernel_sources};
use tarrl_tensor::{DType, conformance};

#[test]
fn a_missing_gpu_is_an_error_and_never_a_panic() {
    match tarrl_cuda::open(0) {
        Ok(device) => println!("did not test a missing GPU: {} is here", device.name()),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("install") || message.contains("nvidia-smi"), "{message}");
        }
    }
}

#[test]
fn without_folders_only_the_loader_is_asked() {
    let nowhere = Cuda { places: Places::default(), ..Cuda::new(0) };
    match nowhere.open() {
        Ok(gpu) => println!("did not test a missing driver: {} is here", gpu.facts().name),
        Err(CudaError::NoDriver { searched }) => assert!(searched.is_empty()),
        Err(other) => println!("did not test a missing driver: {other}"),
    }
}

#[test]
fn an_ordinal_beyond_all_gpus_is_an_error() {
    let Err(error) = Cuda::new(4096).open() else { panic!("no machine has so many GPUs") };
    assert!(!error.to_string().is_empty());
}

#[test]
fn the_kernels_compile_where_there_is_a_compiler() {
    let compiler = match Compiler::find(&Places::usual()) {
        Ok(compiler) => compiler,
        Err(error) => return println!("did not compile the kernels: {error}"),
    };
    for source in kernel_sources().filter(|source| ["layout", "softmax"].contains(&source.file)) {
        let compiled = compiler.compile(&source, "sm_90").unwrap();
        assert!(compiled.cubin.starts_with(b"\x7fELF"), "{}", source.file);
    }
}

#[test]
fn a_gpu_passes_the_conformance_suite() {
    let device = match tarrl_cuda::open(0) {
        Ok(device) => device,
        Err(error) => return println!("did not run on a GPU: {error}"),
    };
    for dtype in [DType::F32, DType::F64, DType::Bf16].into_iter().filter(|&dtype| device.computes(dtype)) {
        let report = conformance::run(&device, dtype);
        assert!(report.failures.is_empty(), "{dtype:?}: {report}");
    }
}
