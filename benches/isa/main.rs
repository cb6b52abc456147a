//! Statistics and assembly of the kernels that plans choose, from the compiler of a Vulkan driver. No kernel runs, so no GPU is needed:
//! Mesa's drivers compile for devices that are not there. `table` beside this file sets them up and makes a table of the output.
//!
//! `--out FOLDER` receives the listings. `--engine NAME` selects the first device whose name contains it. `--shape ROWSxCLASSES` and `--storage f32|f16|bf16` may be repeated. `--loss LOSS` compiles another
//! loss than the method: a divergence in its text form. `--tiling LANES,SIZE,VECTORS` replaces the plan's own. `--plain` uses no subgroup
//! operations. `--all` adds the small kernels. `--checked` keeps the bounds checks that wgpu leaves to the driver.

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};

use ash::vk;
use wgpu_distill::plan::{Limits, Matrix, Plan, Problem, Tiling};
use wgpu_distill::shader::{Binding, BindingKind, Dialect, Kernel, assemble};
use wgpu_distill::{Config, Divergence, Storage};

const SHAPES: [(usize, usize); 5] = [
    (4096, 100),
    (4096, 1000),
    (32_768, 4096),
    (8192, 32_000),
    (4096, 50_257),
];

struct Options {
    out: PathBuf,
    engine: String,
    shapes: Vec<(usize, usize)>,
    storages: Vec<Storage>,
    config: Config,
    tiling: Option<[u32; 3]>,
    plain: bool,
    all: bool,
    checked: bool,
}

fn options() -> Option<Options> {
    let args: Vec<String> = std::env::args().collect();
    let all = |name: &str| -> Vec<&str> {
        let pairs = args.windows(2).filter(|pair| pair[0] == name);
        pairs.map(|pair| pair[1].as_str()).collect()
    };
    let flag = |name: &str| args.iter().any(|a| a == name);
    // `cargo test --benches` starts every bench without arguments. This bench then does nothing.
    let out = all("--out").pop()?.into();
    let shape = |text: &str| {
        let (rows, classes) = text.split_once('x').expect("ROWSxCLASSES");
        (
            rows.parse().expect("rows"),
            classes.parse().expect("classes"),
        )
    };
    let mut shapes: Vec<_> = all("--shape").into_iter().map(shape).collect();
    if shapes.is_empty() {
        shapes = SHAPES.to_vec();
    }
    let mut storages = vec![Storage::F32, Storage::Bf16];
    let named = all("--storage");
    if !named.is_empty() {
        storages = Storage::ALL.to_vec();
        storages.retain(|s| named.contains(&s.name()));
    }
    let mut config = Config::default();
    if let Some(loss) = all("--loss").pop() {
        config.divergence = loss
            .parse::<Divergence>()
            .unwrap_or_else(|e| panic!("--loss: {e}"));
    }
    let tiling = all("--tiling").pop().map(|text| {
        let numbers = text.split(',').map(|n| n.parse().expect("a number"));
        let numbers: Vec<u32> = numbers.collect();
        numbers.try_into().expect("three numbers")
    });
    Some(Options {
        out,
        engine: all("--engine").pop().unwrap_or_default().to_owned(),
        shapes,
        storages,
        config,
        tiling,
        plain: flag("--plain"),
        all: flag("--all"),
        checked: flag("--checked"),
    })
}

/// Matrices without gaps, each in a buffer of its own.
fn problem(rows: usize, classes: usize, storage: Storage) -> Problem {
    let mut matrix = Matrix {
        storage,
        row_stride: classes,
        offset: 0,
        buffer_bytes: 0,
    };
    matrix.buffer_bytes = matrix.end(rows, classes).next_multiple_of(16);
    Problem::new(rows, (matrix, classes), (matrix, classes), Some(matrix))
}

/// The SPIR-V that wgpu's Vulkan backend makes of a kernel. With `robust` the driver checks the bounds of buffers.
fn spirv(text: &str, robust: bool) -> Vec<u32> {
    use naga::back::spv;
    use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    let fail = |e: &dyn std::fmt::Display| -> ! { panic!("{e}\n{text}") };
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| fail(&e));
    let capabilities = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|e| fail(&e));
    let buffer = match robust {
        true => BoundsCheckPolicy::Unchecked,
        false => BoundsCheckPolicy::Restrict,
    };
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::LABEL_VARYINGS,
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Restrict,
            buffer,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ..Default::default()
    };
    let stage = spv::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".to_owned(),
    };
    spv::write_vec(&module, &info, &options, Some(&stage)).unwrap_or_else(|e| fail(&e))
}

/// A name in a fixed array of Vulkan's.
fn name_in(chars: &[c_char]) -> String {
    // SAFETY: Vulkan ends its names with 0.
    let name = unsafe { CStr::from_ptr(chars.as_ptr()) };
    name.to_string_lossy().into_owned()
}

/// A Vulkan device whose driver tells what its compiler made.
struct Compiler {
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    limits: Limits,
    robust: bool,
    name: String,
}

/// A compiled kernel: names and values of the driver's statistics, and its listings.
struct Compiled {
    statistics: Vec<(String, String)>,
    listings: String,
}

impl Compiler {
    /// The first device whose name contains `engine`.
    fn open(engine: &str) -> Self {
        // SAFETY: each struct outlives the call that reads it, all calls are on one thread, and the process ends before anything is destroyed.
        unsafe {
            let entry = ash::Entry::load().expect("a Vulkan loader");
            let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&app);
            let instance = entry.create_instance(&info, None).expect("an instance");
            let found = instance.enumerate_physical_devices().expect("devices");
            let name = |device: &vk::PhysicalDevice| {
                name_in(&instance.get_physical_device_properties(*device).device_name)
            };
            let physical = *found
                .iter()
                .find(|device| name(device).contains(engine))
                .expect("a device of this name");

            let mut sizes = vk::PhysicalDeviceSubgroupSizeControlProperties::default();
            let mut subgroup = vk::PhysicalDeviceSubgroupProperties::default();
            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default()
                .push_next(&mut sizes)
                .push_next(&mut subgroup)
                .push_next(&mut driver);
            instance.get_physical_device_properties2(physical, &mut properties);
            let properties = properties.properties;
            let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
            let mut executable =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
            let mut control = vk::PhysicalDeviceSubgroupSizeControlFeatures::default();
            let mut features = vk::PhysicalDeviceFeatures2::default()
                .push_next(&mut robust)
                .push_next(&mut executable)
                .push_next(&mut control);
            instance.get_physical_device_features2(physical, &mut features);
            let core = features.features;
            assert!(
                executable.pipeline_executable_info != 0,
                "the driver has no statistics of pipelines"
            );
            let robust = robust.robust_buffer_access2 != 0;

            let mut extensions = vec![ash::khr::pipeline_executable_properties::NAME.as_ptr()];
            if robust {
                extensions.push(ash::ext::robustness2::NAME.as_ptr());
            }
            let mut with_robust =
                vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
            let mut with_executable =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                    .pipeline_executable_info(true);
            let mut with_control = vk::PhysicalDeviceSubgroupSizeControlFeatures::default()
                .subgroup_size_control(control.subgroup_size_control != 0);
            let enabled = vk::PhysicalDeviceFeatures::default()
                .robust_buffer_access(core.robust_buffer_access != 0);
            let queues = [vk::DeviceQueueCreateInfo::default()
                .queue_family_index(0)
                .queue_priorities(&[1.0])];
            let mut info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .enabled_features(&enabled)
                .push_next(&mut with_executable)
                .push_next(&mut with_control);
            if robust {
                info = info.push_next(&mut with_robust);
            }
            let device = instance.create_device(physical, &info, None);
            let device = device.expect("a device");

            let operations = vk::SubgroupFeatureFlags::BASIC
                | vk::SubgroupFeatureFlags::ARITHMETIC
                | vk::SubgroupFeatureFlags::SHUFFLE;
            let subgroups = subgroup.supported_operations.contains(operations);
            let l = properties.limits;
            let most = l.max_compute_work_group_invocations;
            let limits = Limits {
                binding_bytes: u64::from(l.max_storage_buffer_range),
                buffer_bytes: 1 << 40,
                storage_buffers: l.max_per_stage_descriptor_storage_buffers,
                offset_alignment: l.min_storage_buffer_offset_alignment.max(16),
                workgroup_invocations: most.min(l.max_compute_work_group_size[0]),
                workgroup_bytes: l.max_compute_shared_memory_size,
                workgroups: l.max_compute_work_group_count[0],
                subgroup: subgroups.then_some((sizes.min_subgroup_size, sizes.max_subgroup_size)),
                ..Limits::DEFAULT
            }
            .with_registers_of(properties.vendor_id)
            .with_registers_of_driver(&name_in(&driver.driver_name));
            Self {
                executables: ash::khr::pipeline_executable_properties::Device::new(
                    &instance, &device,
                ),
                device,
                limits,
                robust,
                name: name_in(&properties.device_name),
            }
        }
    }

    /// Compiles a kernel.
    fn compile(&self, text: &str, bindings: &[Binding], options: &Options) -> Compiled {
        let code = spirv(text, self.robust && !options.checked);
        let device = &self.device;
        // SAFETY: as in `open`.
        let pipeline = unsafe {
            let info = vk::ShaderModuleCreateInfo::default().code(&code);
            let module = device.create_shader_module(&info, None).expect("a module");
            let list: Vec<_> = bindings
                .iter()
                .map(|binding| {
                    vk::DescriptorSetLayoutBinding::default()
                        .binding(binding.index)
                        .descriptor_count(1)
                        .stage_flags(vk::ShaderStageFlags::COMPUTE)
                        .descriptor_type(match binding.kind {
                            BindingKind::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
                            _ => vk::DescriptorType::STORAGE_BUFFER,
                        })
                })
                .collect();
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&list);
            let sets = [device
                .create_descriptor_set_layout(&info, None)
                .expect("a set")];
            let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = device
                .create_pipeline_layout(&info, None)
                .expect("a layout");
            // wgpu allows subgroups of any size that the device has.
            let varying = match self.limits.subgroup {
                Some(_) => vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE,
                None => vk::PipelineShaderStageCreateFlags::empty(),
            };
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(varying)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let info = vk::ComputePipelineCreateInfo::default()
                .flags(
                    vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                        | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
                )
                .stage(stage)
                .layout(layout);
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            made.map_err(|(_, error)| error).expect("a pipeline")[0]
        };
        self.read(pipeline)
    }

    /// Statistics and listings of a pipeline's executables.
    fn read(&self, pipeline: vk::Pipeline) -> Compiled {
        let calls = self.executables.fp();
        let device = self.device.handle();
        let mut compiled = Compiled {
            statistics: Vec::new(),
            listings: String::new(),
        };
        let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
        // SAFETY: each list has room for the number of items that the driver was asked for before, as in `open`.
        unsafe {
            let found = listed(|count, items| {
                (calls.get_pipeline_executable_properties_khr)(device, &info, count, items)
            });
            for (i, executable) in found.iter().enumerate() {
                let executable: &vk::PipelineExecutablePropertiesKHR<'_> = executable;
                let size = executable.subgroup_size.to_string();
                compiled.statistics.push(("subgroup size".to_owned(), size));
                let info = vk::PipelineExecutableInfoKHR::default()
                    .pipeline(pipeline)
                    .executable_index(i as u32);
                let statistics = listed(|count, items| {
                    (calls.get_pipeline_executable_statistics_khr)(device, &info, count, items)
                });
                compiled.statistics.extend(statistics.iter().map(statistic));
                let mut texts: Vec<vk::PipelineExecutableInternalRepresentationKHR<'_>> =
                    listed(|count, items| {
                        (calls.get_pipeline_executable_internal_representations_khr)(
                            device, &info, count, items,
                        )
                    });
                let mut bytes: Vec<Vec<u8>> =
                    texts.iter().map(|text| vec![0; text.data_size]).collect();
                for (text, bytes) in texts.iter_mut().zip(&mut bytes) {
                    text.p_data = bytes.as_mut_ptr().cast();
                }
                let mut count = texts.len() as u32;
                let read = (calls.get_pipeline_executable_internal_representations_khr)(
                    device,
                    &info,
                    &mut count,
                    texts.as_mut_ptr(),
                );
                read.result().expect("listings");
                for (text, bytes) in texts.iter().zip(&bytes) {
                    let body = String::from_utf8_lossy(bytes);
                    let body = body.trim_end_matches('\0');
                    compiled.listings += &format!(";;;; {}\n{body}\n", name_in(&text.name));
                }
            }
        }
        compiled
    }
}

/// A list from a call of Vulkan that first tells its length.
fn listed<T: Default + Clone>(call: impl Fn(&mut u32, *mut T) -> vk::Result) -> Vec<T> {
    let mut count = 0;
    call(&mut count, std::ptr::null_mut())
        .result()
        .expect("a number of items");
    let mut items = vec![T::default(); count as usize];
    call(&mut count, items.as_mut_ptr())
        .result()
        .expect("the items");
    items
}

fn statistic(s: &vk::PipelineExecutableStatisticKHR<'_>) -> (String, String) {
    use vk::PipelineExecutableStatisticFormatKHR as Format;
    // SAFETY: `format` tells the field that the driver wrote.
    let value = unsafe {
        match s.format {
            Format::BOOL32 => (s.value.b32 != 0).to_string(),
            Format::INT64 => s.value.i64.to_string(),
            Format::UINT64 => s.value.u64.to_string(),
            _ => s.value.f64.to_string(),
        }
    };
    (name_in(&s.name), value)
}

/// Prints a line for a kernel, and writes its WGSL and its listings into the folder.
fn report(out: &Path, stem: &str, plan: &Plan, text: &str, compiled: &Compiled) {
    let statistics = compiled.statistics.iter();
    let fields: Vec<String> = statistics.map(|(k, v)| format!("{k}={v}")).collect();
    println!("{stem}\tplan={plan}\t{}", fields.join("\t"));
    for (suffix, content) in [("txt", compiled.listings.as_str()), ("wgsl", text)] {
        std::fs::write(out.join(format!("{stem}.{suffix}")), content).expect("a file");
    }
}

fn main() {
    let Some(options) = options() else { return };
    std::fs::create_dir_all(&options.out).expect("a folder for the listings");
    let compiler = Compiler::open(&options.engine);
    let mut limits = compiler.limits;
    if options.plain {
        limits.subgroup = None;
    }
    println!(
        "# {}, subgroups {:?}, workgroups of {} and {} bytes, bounds checked by the {}",
        compiler.name,
        limits.subgroup,
        limits.workgroup_invocations,
        limits.workgroup_bytes,
        match compiler.robust && !options.checked {
            true => "driver",
            false => "kernel",
        }
    );
    let shapes = options.shapes.iter();
    let storages = &options.storages;
    for (&(rows, classes), &storage) in
        shapes.flat_map(|shape| storages.iter().map(move |s| (shape, s)))
    {
        let problem = problem(rows, classes, storage);
        let config = &options.config;
        let plan = match options.tiling {
            None => Plan::new(config, &problem, &limits),
            Some([lanes, workgroup_size, vectors_per_lane]) => {
                let tiling = Tiling {
                    lanes,
                    workgroup_size,
                    vectors_per_lane,
                    ..Tiling::for_shape(rows, classes, &limits)
                };
                Plan::with_tiling(config, &problem, &limits, &tiling)
            }
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(why) => {
                println!("# {rows}x{classes} {}: {why}", storage.name());
                continue;
            }
        };
        for kernel in plan.kernels() {
            if !options.all && matches!(kernel, Kernel::ValidRows | Kernel::Summary) {
                continue;
            }
            let variant = plan.variant_of(kernel);
            let text = assemble(kernel, &variant, Dialect::Naga);
            let compiled = compiler.compile(&text, &kernel.bindings(&variant), &options);
            let stem = format!("{}-{rows}x{classes}-{}", kernel.name(), storage.name());
            report(&options.out, &stem, &plan, &text, &compiled);
        }
    }
}
