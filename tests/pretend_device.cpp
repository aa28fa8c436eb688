#include "tests/pretend_device.h"

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceType.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>

namespace drystone::test {
namespace {

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;
constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

/// Pieces of one mapping, so that all of the device's memory is opened and closed at once.
class Memory final : public c10::Allocator {
 public:
  static Memory& instance() {
    static Memory memory;
    return memory;
  }
  c10::DataPtr allocate(std::size_t bytes) override {
    const std::lock_guard lock(mutex_);
    const std::size_t size = std::bit_ceil(std::max<std::size_t>(bytes, 64));
    auto& free = free_[size];
    char* piece = begin_ + used_;
    if (free.empty()) {
      used_ += size;
      TORCH_CHECK(used_ <= kBytes, "the pretended device is out of memory");
      if (open_ > 0) protect();
    } else {
      piece = free.back();
      free.pop_back();
    }
    sizes_[piece] = size;
    return {piece, piece, &release, c10::Device(kType, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    const Access access;
    default_copy_data(to, from, count);
  }

  /// While one is alive the device's memory can be read and written.
  struct Access {
    Access() { instance().change(+1); }
    ~Access() { instance().change(-1); }
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;
  };

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 33;

  Memory()
      : begin_(static_cast<char*>(mmap(nullptr, kBytes, PROT_NONE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {}

  static void release(void* piece) {
    Memory& memory = instance();
    const std::lock_guard lock(memory.mutex_);
    memory.free_[memory.sizes_[static_cast<char*>(piece)]].push_back(static_cast<char*>(piece));
  }
  void change(int by) {
    const std::lock_guard lock(mutex_);
    open_ += by;
    protect();
  }
  void protect() { mprotect(begin_, used_, open_ > 0 ? PROT_READ | PROT_WRITE : PROT_NONE); }

  std::mutex mutex_;
  char* begin_;
  std::size_t used_ = 0;
  int open_ = 0;
  std::map<char*, std::size_t> sizes_;
  std::map<std::size_t, std::vector<char*>> free_;
};

class Hooks final : public at::PrivateUse1HooksInterface {
 public:
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<at::CPUGeneratorImpl>();
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, std::size_t bytes) const override {
    c10::DataPtr larger = Memory::instance().allocate(bytes);
    Memory::instance().copy_data(larger.get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(larger));
    storage.unsafeGetStorageImpl()->set_nbytes(bytes);
  }
};

std::mutex waits_mutex;
std::vector<std::string> waits;
thread_local int kernels = 0;  // whose own copies do not count

struct InKernel {
  InKernel() { ++kernels; }
  ~InKernel() { --kernels; }
  InKernel(const InKernel&) = delete;
  InKernel& operator=(const InKernel&) = delete;
};

void note_wait(const std::string& name) {
  if (kernels > 0) return;
  const std::lock_guard lock(waits_mutex);
  waits.push_back(name);
}

bool is_ours(const at::Tensor& tensor) { return tensor.device().type() == kType; }

/// The tensor's memory as a tensor of the CPU.
at::Tensor on_cpu(const at::Tensor& tensor) {
  if (!is_ours(tensor)) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                       at::TensorOptions().dtype(tensor.scalar_type()));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (!is_ours(to)) note_wait("copy to the CPU");
  if (!is_ours(from) && !non_blocking) note_wait("copy from the CPU");
  const Memory::Access access;
  const at::NoGradGuard no_grad;
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, /*non_blocking=*/true);
}

at::Scalar read_scalar(const at::Tensor& tensor) {
  note_wait("item");
  const Memory::Access access;
  return on_cpu(tensor).item();
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::Tensor(at::detail::empty_generic(size, &Memory::instance(), kKeys,
                                              c10::dtype_or_default(dtype), format));
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::Tensor(at::detail::empty_strided_generic(size, stride, &Memory::instance(), kKeys,
                                                      c10::dtype_or_default(dtype)));
}

at::Tensor& set_storage(at::Tensor& tensor, at::Storage source, std::int64_t offset,
                        at::IntArrayRef size, at::IntArrayRef stride) {
  return at::native::set_storage_cpu_(tensor, std::move(source), offset, size, stride);
}

void refuse_mixed_devices(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const auto check = [&](const at::Tensor& tensor) {
    TORCH_CHECK(!tensor.defined() || is_ours(tensor) || tensor.dim() == 0, op.schema().name(),
                ": a tensor of the CPU, ", tensor.sizes(), ", beside the device's");
  };
  for (const c10::IValue& value : torch::jit::last(stack, op.schema().arguments().size())) {
    if (value.isTensor()) check(value.toTensor());
    if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorVector()) check(tensor);
    }
  }
}

/// Sizes or errors that a GPU's kernels leave to the program.
bool waits_in_its_kernel(const c10::OperatorHandle& op) {
  static const std::set<std::string> always = {
      "aten::equal",        "aten::masked_select", "aten::nonzero",    "aten::_unique2",
      "aten::_linalg_eigh", "aten::_linalg_svd",   "aten::unique_dim", "aten::repeat_interleave"};
  return always.contains(op.schema().name());
}

/// Every other operator: the CPU's kernel on copies.
void fall_back(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  if (waits_in_its_kernel(op)) note_wait(op.schema().name());
  refuse_mixed_devices(op, *stack);
  const InKernel in_kernel;
  at::native::cpu_fallback(op, stack);
}

Hooks hooks;
[[maybe_unused]] const bool kRegistered = [] {
  c10::SetAllocator(kType, &Memory::instance());
  at::RegisterPrivateUse1HooksInterface(&hooks);
  c10::register_privateuse1_backend("pretended");
  return true;
}();

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &read_scalar);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", &at::native::view);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("resize_", &at::native::resize_);
  library.impl("set_.source_Storage_storage_offset", &set_storage);
  // Composite operators that know no other devices than LibTorch's own.
  for (const char* name : {"convolution", "convolution_backward"}) {
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&fall_back>());
  }
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&fall_back>());
}

}  // namespace

c10::Device pretend_device() { return {kType, 0}; }

std::vector<std::string> take_waits() {
  const std::lock_guard lock(waits_mutex);
  return std::exchange(waits, {});
}

}  // namespace drystone::test

namespace c10::impl {

/// Everything is done as soon as it was told, on a single stream.
struct PretendGuard final : NoOpDeviceGuardImpl<DeviceType::PrivateUse1> {
  static Stream only_stream() { return Stream(Stream::DEFAULT, drystone::test::pretend_device()); }

  Device exchangeDevice(Device device) const override { return device; }
  Device getDevice() const override { return drystone::test::pretend_device(); }
  Stream getStream(Device) const noexcept override { return only_stream(); }
  Stream getDefaultStream(Device) const override { return only_stream(); }
  Stream getNewStream(Device, int) const override { return only_stream(); }
  Stream exchangeStream(Stream) const noexcept override { return only_stream(); }
  void record(void**, const Stream&, DeviceIndex, EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
  void destroyEvent(void*, DeviceIndex) const noexcept override {}
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, PretendGuard);

}  // namespace c10::impl
