// The table of the instruction set whose namespace includes this file. Order: struct Kernels.
constexpr Kernels kTable = {
    kName,   kNeeds,     gemm,   latent, latent_gather, latent_read,  window,    rms_norm, layer_norm,
    affine,  add,        gelu,   silu,     gelu_mul,  silu_mul, sigmoid_mul,
    mixture, add_scaled, rotate, widen_i8, widen_f16, exp_row,
};
