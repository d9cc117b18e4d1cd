#include "kernels/cuda/shim/context_switch.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "kernels/base/check.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define DELTASERVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DELTASERVE_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define DELTASERVE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DELTASERVE_TSAN 1
#endif
#endif

#if defined(DELTASERVE_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(DELTASERVE_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__x86_64__)
// Saves what a called function must keep, goes over to the stack `to` and restores the same from
// there.
extern "C" void deltaserve_switch_stack(void** save, void* to);
asm(R"(
.pushsection .text
.globl deltaserve_switch_stack
.hidden deltaserve_switch_stack
.type deltaserve_switch_stack, @function
deltaserve_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size deltaserve_switch_stack, .-deltaserve_switch_stack
.popsection
)");
#endif

namespace deltaserve::cuda::shim {
namespace {

constexpr size_t kStackBytes = size_t{256} << 10;

Fiber* starting = nullptr;  // whose Start() is about to run

}  // namespace

struct Fiber::State {
  char* mapping = nullptr;
  size_t mapped_bytes = 0;
  char* stack = nullptr;
#if defined(__x86_64__)
  void* fiber_stack_pointer = nullptr;
  void* owner_stack_pointer = nullptr;
#else
  ucontext_t fiber_context;
  ucontext_t owner_context;
#endif
#if defined(DELTASERVE_ASAN)
  void* fiber_fake_stack = nullptr;
  void* owner_fake_stack = nullptr;
  const void* owner_stack = nullptr;
  size_t owner_stack_bytes = 0;
#endif
#if defined(DELTASERVE_TSAN)
  void* fiber_tsan = nullptr;
  void* owner_tsan = nullptr;
#endif
};

Fiber::Fiber(void (*body)()) : body_(body), state_(std::make_unique<State>()) {
  State& s = *state_;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  s.mapped_bytes = kStackBytes + page;
  void* mapping = mmap(nullptr, s.mapped_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  DS_CHECK(mapping != MAP_FAILED) << "no memory for a stack of " << kStackBytes << " bytes";
  s.mapping = static_cast<char*>(mapping);
  DS_CHECK_EQ(mprotect(s.mapping, page, PROT_NONE), 0);
  s.stack = s.mapping + page;
#if defined(__x86_64__)
  // As if Start had just been called: six registers, its address, and no address to return to.
  auto* top = reinterpret_cast<void**>(s.stack + kStackBytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::Start);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  s.fiber_stack_pointer = top;
#else
  DS_CHECK_EQ(getcontext(&s.fiber_context), 0);
  s.fiber_context.uc_stack.ss_sp = s.stack;
  s.fiber_context.uc_stack.ss_size = kStackBytes;
  s.fiber_context.uc_link = nullptr;
  makecontext(&s.fiber_context, &Fiber::Start, 0);
#endif
#if defined(DELTASERVE_TSAN)
  s.fiber_tsan = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(DELTASERVE_TSAN)
  __tsan_destroy_fiber(state_->fiber_tsan);
#endif
  munmap(state_->mapping, state_->mapped_bytes);
}

void Fiber::Start() {
  Fiber* self = starting;
#if defined(DELTASERVE_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &self->state_->owner_stack,
                                  &self->state_->owner_stack_bytes);
#endif
  self->body_();
  std::abort();
}

void Fiber::Resume() {
  State& s = *state_;
  starting = this;
#if defined(DELTASERVE_TSAN)
  s.owner_tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(s.fiber_tsan, 0);
#endif
#if defined(DELTASERVE_ASAN)
  __sanitizer_start_switch_fiber(&s.owner_fake_stack, s.stack, kStackBytes);
#endif
#if defined(__x86_64__)
  deltaserve_switch_stack(&s.owner_stack_pointer, s.fiber_stack_pointer);
#else
  DS_CHECK_EQ(swapcontext(&s.owner_context, &s.fiber_context), 0);
#endif
#if defined(DELTASERVE_ASAN)
  __sanitizer_finish_switch_fiber(s.owner_fake_stack, nullptr, nullptr);
#endif
}

void Fiber::Suspend() {
  State& s = *state_;
#if defined(DELTASERVE_TSAN)
  __tsan_switch_to_fiber(s.owner_tsan, 0);
#endif
#if defined(DELTASERVE_ASAN)
  __sanitizer_start_switch_fiber(&s.fiber_fake_stack, s.owner_stack, s.owner_stack_bytes);
#endif
#if defined(__x86_64__)
  deltaserve_switch_stack(&s.fiber_stack_pointer, s.owner_stack_pointer);
#else
  DS_CHECK_EQ(swapcontext(&s.fiber_context, &s.owner_context), 0);
#endif
#if defined(DELTASERVE_ASAN)
  __sanitizer_finish_switch_fiber(s.fiber_fake_stack, &s.owner_stack, &s.owner_stack_bytes);
#endif
}

}  // namespace deltaserve::cuda::shim
