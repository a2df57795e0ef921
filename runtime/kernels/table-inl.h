// The table of the instruction set whose namespace includes this file. Order: struct Kernels.
constexpr Kernels kTable = {
    kName,      kNeeds,   gemm,       latent, latent_gather, latent_read, window,    rms_norm,
    layer_norm, affine,   add,        gelu,   silu,          gelu_mul,    silu_mul,  sigmoid_mul,
    mixture,    mixtures, add_scaled, rotate, rotate_rows,   widen_i8,    widen_f16, exp_row,
};
