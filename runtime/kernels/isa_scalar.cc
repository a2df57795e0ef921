// Kernel table in plain C++: runs everywhere, and is what the others are tested against.
#include "runtime/kernels/isa.h"

namespace moka {
namespace isa_scalar {

struct Scalar;
using Vec = Scalar;
constexpr size_t kTileCols = 4;
constexpr size_t tile_rows(size_t) { return 4; }
constexpr char kName[] = "scalar";
constexpr uint32_t kNeeds = 0;

#include "runtime/kernels/body-inl.h"

}  // namespace isa_scalar

const Kernels* kernels_scalar() { return &isa_scalar::kTable; }

}  // namespace moka
