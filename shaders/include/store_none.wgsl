// No gradient is written.

#import aligned

fn store_grad(base: u32, first: u32, value: vec4<u32>) {
}
