//! Errors that come from the device: loss of the device, capture of a graph, unsupported types, limits.

use burn::backend::{Backend, Dispatch, DispatchDevice};
use burn::tensor::{DType, Device, Int, Tensor};
use burn_distill::{
    DistillationBatch, DistillationLoss, DistillationLossConfig, Error, ExecutionPath, Progress,
};
use wgpu_distill::Error as CoreError;
use wgpu_distill::wgpu::{Features, Limits, PollType};

use crate::devices;
use crate::inputs::{floats, labels, logits};

fn loss() -> DistillationLoss {
    DistillationLossConfig::new().init()
}

fn refusal(student: Tensor<2>, teacher: Tensor<2>, labels: Tensor<1, Int>) -> Error {
    loss()
        .try_forward(student, teacher, labels, Progress::new(0, 1))
        .expect_err("it is refused")
}

/// With fusion the read returns the error, without fusion the loss does. Neither panics.
#[test]
fn a_lost_device_is_an_error() {
    let Some(setup) = devices::application() else {
        return;
    };
    let lost = setup.device.clone();
    let device = burn_distill::adopt(Device::wgpu_options(), setup).expect("a fresh setup");
    let (s, t, l) = (
        logits(1, 4, 5, &device),
        logits(2, 4, 5, &device),
        labels(4, 5, &device),
    );
    let before = loss().forward(s.clone(), t.clone(), l.clone(), Progress::new(0, 1));
    assert!(floats(before)[0].is_finite());
    lost.destroy();
    let _ = lost.poll(PollType::Poll);
    let after = std::panic::catch_unwind(|| {
        let after = loss().try_forward(s, t, l, Progress::new(0, 1))?;
        let read = after.try_into_data();
        Ok::<_, Error>(read.map(|_| ()).map_err(|error| error.to_string()))
    });
    let at_the_read = match after {
        Ok(Ok(Ok(()))) => panic!("a read from a lost device succeeded"),
        Ok(Ok(Err(error))) => {
            println!("at the read: {error}");
            true
        }
        Ok(Err(error)) => {
            println!("at the loss: {error}");
            false
        }
        Err(_) => panic!("it panicked instead of returning an error"),
    };
    assert_eq!(at_the_read, cfg!(feature = "fusion"));
}

/// A captured graph would miss the direct submission.
#[test]
fn a_captured_graph_is_refused() {
    let Some(setup) = devices::application() else {
        return;
    };
    let device = burn_distill::adopt(Device::wgpu_options(), setup).expect("a fresh setup");
    let (s, t, l) = (
        logits(1, 4, 5, &device),
        logits(2, 4, 5, &device),
        labels(4, 5, &device),
    );
    let DispatchDevice::Cube(cube) = device.as_dispatch() else {
        panic!("a wgpu device");
    };
    device.sync().expect("the device works");
    let client = cube.client();
    client.graph_prepare().expect("wgpu records graphs");
    client.start_capture().expect("wgpu records graphs");
    assert!(client.is_capturing());
    assert_eq!(refusal(s.clone(), t.clone(), l.clone()), Error::Capturing);
    drop(client.stop_capture());
    assert!(loss().try_forward(s, t, l, Progress::new(0, 1)).is_ok());
}

/// A capture records the operations of the composed path.
#[test]
fn a_captured_graph_takes_the_composed_path() {
    let Some(setup) = devices::application() else {
        return;
    };
    let device = burn_distill::adopt(Device::wgpu_options(), setup).expect("a fresh setup");
    let on = device.as_dispatch();
    let (s, t, l) = (
        logits(1, 4, 5, &device),
        logits(2, 4, 5, &device),
        labels(4, 5, &device),
    );
    let run = || {
        let (s, t, l) = (s.clone(), t.clone(), l.clone());
        let loss = loss().composed();
        loss.try_forward(s, t, l, Progress::new(0, 1))
            .expect("the capture records it")
    };
    let want = floats(run());
    Dispatch::graph_prepare(on).expect("wgpu records graphs");
    drop(run());
    Dispatch::graph_start_capture(on).expect("wgpu records graphs");
    let recorded = run();
    let graph = Dispatch::graph_stop_capture(on).expect("the capture is complete");
    // SAFETY: every tensor of the graph is alive, and no other thread uses the device.
    unsafe { Dispatch::graph_replay(on, &graph) }.expect("wgpu replays graphs");
    assert_eq!(floats(recorded), want);
}

/// Burn stores such logits on the device but does not compute with them.
#[test]
fn sixteen_bit_types_without_support_on_the_device() {
    let without_f16 = |f: &mut Features, _: &mut _| f.remove(Features::SHADER_F16);
    let Some(setup) = devices::application_with(without_f16) else {
        return;
    };
    let device = burn_distill::adopt(Device::wgpu_options(), setup).expect("a fresh setup");
    let plain = logits(1, 4, 5, &device);
    for dtype in [DType::BF16, DType::F16] {
        if device.supports_dtype(dtype) {
            assert_ne!(dtype, DType::BF16, "WGSL has no bf16");
            continue;
        }
        let data = logits(2, 4, 5, &Device::flex()).into_data();
        let narrow = Tensor::<2>::from_data(data.convert_dtype(dtype), (&device, dtype));
        for (name, student, teacher) in [
            ("student_logits", narrow.clone(), plain.clone()),
            ("teacher_logits", plain.clone(), narrow),
        ] {
            let error = refusal(student, teacher, labels(4, 5, &device));
            let device = format!("{device:?}");
            let want = Error::TypeOnDevice {
                name,
                dtype,
                device,
            };
            assert_eq!(error, want);
            assert!(error.to_string().contains("convert_dtype"), "{error}");
        }
    }
}

/// WebGPU guarantees 8 storage buffers, and Burn's runtime binds the parameters as one more.
#[test]
fn more_tensors_than_the_device_can_bind() {
    let least = |_: &mut _, l: &mut Limits| l.max_storage_buffers_per_shader_stage = 8;
    let shared = devices::application_with(least)
        .map(|setup| burn_distill::adopt(Device::wgpu_options(), setup));
    let unshared =
        devices::application_with(least).map(|setup| Device::wgpu_options().setup(setup).init());
    for device in [shared, unshared].into_iter().flatten() {
        let device = device.expect("a fresh setup");
        let path = ExecutionPath::of(&device);
        let student = Tensor::from_inner(logits(1, 4, 5, &device)).require_grad();
        let few = DistillationBatch::new(student, logits(2, 4, 5, &device), labels(4, 5, &device))
            .with_soft_labels(logits(3, 4, 5, &device).abs());
        let many = few.clone().with_row_weights(Tensor::ones([4], &device));
        let run = |batch| {
            let done = loss().try_forward_batch(batch, Progress::new(0, 1));
            done.map(|out| floats(out.loss)[0])
        };
        assert!(run(few).expect("7 tensors").is_finite(), "{path}");
        let done = run(many);
        if path == ExecutionPath::SharedDevice {
            assert!(done.expect("8 tensors").is_finite());
            continue;
        }
        let want = CoreError::DeviceLimit {
            what: "storage buffers per kernel",
            needed: 9,
            limit: 8,
        };
        assert_eq!(done, Err(Error::Distill(want)));
    }
}

/// The error comes before anything is queued. With fusion an error of the queue would come at a later read.
#[test]
fn a_row_longer_than_the_device_can_bind() {
    const LIMIT: u64 = 1 << 20;
    let narrow = |_: &mut _, l: &mut Limits| l.max_storage_buffer_binding_size = LIMIT as _;
    let shared = devices::application_with(narrow)
        .map(|setup| burn_distill::adopt(Device::wgpu_options(), setup));
    let unshared =
        devices::application_with(narrow).map(|setup| Device::wgpu_options().setup(setup).init());
    for device in [shared, unshared].into_iter().flatten() {
        let device = device.expect("a fresh setup");
        let path = ExecutionPath::of(&device);
        let row = |classes| Tensor::<2>::zeros([1, classes], (&device, DType::F32));
        let label = || Tensor::<1, Int>::zeros([1], (&device, DType::I32));
        // A binding starts at a multiple of the device's alignment, up to 256 bytes before the row.
        let most = LIMIT as usize / 4;
        let fits = most - 256;
        let done = loss().try_forward(row(fits), row(fits), label(), Progress::new(0, 1));
        assert!(floats(done.expect("it fits"))[0].is_finite(), "{path}");
        let error = refusal(row(most + 4), row(most + 4), label());
        assert!(
            matches!(
                error,
                Error::Distill(CoreError::LimitExceeded { limit, .. }) if limit <= LIMIT
            ),
            "{path}: {error}"
        );
    }
}
