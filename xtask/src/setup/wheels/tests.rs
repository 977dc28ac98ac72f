use std::collections::BTreeSet;

use super::*;

fn plans() -> Vec<Plan> {
    [Platform::LinuxX86, Platform::LinuxArm, Platform::MacArm]
        .into_iter()
        .flat_map(|platform| [Plan::new(platform, false), Plan::new(platform, true)])
        .flatten()
        .collect()
}

fn placed(plan: &Plan, inside: &str) -> Option<String> {
    plan.place(Path::new(inside)).map(|path| path.to_str().unwrap().to_owned())
}

#[test]
fn machines_without_a_wheel_are_told_apart() {
    assert_eq!(Platform::of("linux", "x86_64"), Some(Platform::LinuxX86));
    assert_eq!(Platform::of("macos", "aarch64"), Some(Platform::MacArm));
    assert_eq!(Platform::of("macos", "x86_64"), None);
    assert_eq!(Platform::of("windows", "x86_64"), None);
    assert!(Plan::new(Platform::MacArm, true).is_none());
}

#[test]
fn every_pinned_row_is_well_formed_and_of_its_platform() {
    for plan in plans() {
        let ending = match plan.platform {
            Platform::LinuxX86 => "x86_64.whl",
            Platform::LinuxArm => "aarch64.whl",
            Platform::MacArm => "arm64.whl",
        };
        let mut names = BTreeSet::new();
        for wheel in plan.wheels {
            assert!(wheel.file.ends_with(ending), "{}", wheel.file);
            assert_eq!(wheel.sha256.len(), 64, "{}", wheel.file);
            assert!(wheel.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{}", wheel.file);
            assert!(wheel.size > 0 && names.insert(wheel.name()), "{}", wheel.file);
        }
        assert_eq!(plan.wheels[0].requirement(), format!("torch==={VERSION}"));
    }
}

#[test]
fn file_names_give_what_pip_wants_to_hear() {
    let plan = Plan::new(Platform::LinuxX86, false).unwrap();
    let asked: Vec<(String, &str)> = plan.wheels.iter().map(|wheel| (wheel.requirement(), wheel.tag())).collect();
    assert_eq!(
        asked,
        [
            ("torch===2.11.0".to_owned(), "manylinux_2_28_x86_64"),
            ("nvidia-cuda-cupti===13.0.85".to_owned(), "manylinux_2_25_x86_64"),
            ("nvidia-cuda-runtime===13.0.96".to_owned(), "manylinux2014_x86_64"),
        ]
    );
    assert_eq!(Plan::new(Platform::MacArm, false).unwrap().wheels[0].tag(), "macosx_11_0_arm64");
}

#[test]
fn a_cpu_machine_gets_headers_and_cpu_libraries_only() {
    let plan = Plan::new(Platform::LinuxX86, false).unwrap();
    let kept = [
        ("torch/include/ATen/ATen.h", "include/ATen/ATen.h"),
        ("torch/lib/libtorch_cpu.so", "lib/libtorch_cpu.so"),
        ("torch/lib/libgomp.so.1", "lib/libgomp.so.1"),
        ("nvidia/cu13/lib/libcudart.so.13", "lib/libcudart.so.13"),
    ];
    for (inside, place) in kept {
        assert_eq!(placed(&plan, inside).as_deref(), Some(place));
    }
    for inside in [
        "torch/lib/libtorch_cuda.so",
        "torch/lib/libtorch.so",
        "torch/lib/libtorch_python.so",
        "torch/lib/libshm/err.h",
        "torch/_C.so",
        "torch/include",
        "nvidia/cu13/lib/libcudart_static.a",
        "nvidia/cu13/lib/libnvperf_host.so",
        "nvidia/cu13/include/cuda.h",
        "torch-2.11.0.dist-info/METADATA",
    ] {
        assert_eq!(placed(&plan, inside), None, "{inside}");
    }
}

#[test]
fn a_cuda_machine_gets_the_gpu_libraries_beside_the_others() {
    let plan = Plan::new(Platform::LinuxX86, true).unwrap();
    for (inside, place) in [
        ("torch/lib/libtorch_cuda.so", "lib/libtorch_cuda.so"),
        ("nvidia/cudnn/lib/libcudnn.so.9", "lib/libcudnn.so.9"),
        ("nvidia/nvshmem/lib/nvshmem_transport_ucx.so.3", "lib/nvshmem_transport_ucx.so.3"),
    ] {
        assert_eq!(placed(&plan, inside).as_deref(), Some(place));
    }
    assert_eq!(placed(&plan, "torch/lib/libtorch.so"), None);
    assert_eq!(placed(&plan, "nvidia/nvshmem/lib/libnvshmem_device.a"), None);
}

#[test]
fn a_mac_keeps_its_own_libtorch() {
    let plan = Plan::new(Platform::MacArm, false).unwrap();
    assert_eq!(placed(&plan, "torch/lib/libtorch.dylib").as_deref(), Some("lib/libtorch.dylib"));
    assert_eq!(placed(&plan, "torch/lib/libomp.dylib").as_deref(), Some("lib/libomp.dylib"));
    assert_eq!(placed(&plan, "torch/lib/libtorch_python.dylib"), None);
}
