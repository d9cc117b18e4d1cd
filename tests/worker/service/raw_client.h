#pragma once

// Clients of grpc.health.v1 and grpc.reflection, whose messages the distribution does not ship: the
// few bytes they are made of are written and read here.

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"

namespace deltaserve {

// One streaming or unary call of raw bytes. Threads: one. Owner: the test.
class RawCall {
 public:
  RawCall(const std::string& address, const std::string& method, const std::string& request)
      : stub_(grpc::CreateChannel(address, grpc::InsecureChannelCredentials())) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    call_ = stub_.PrepareCall(&context_, method, &queue_);
    call_->StartCall(this);
    if (!Done()) return;
    const grpc::Slice slice(request);
    call_->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), this);
    Done();
  }
  ~RawCall() {
    context_.TryCancel();
    if (!finished_) Finish();
    queue_.Shutdown();
    while (Done()) {
    }
  }

  // How the call ended; once, after Read() said so.
  grpc::Status Finish() {
    grpc::Status status;
    call_->Finish(&status, this);
    Done();
    finished_ = true;
    return status;
  }

  // The next message; nullopt at the end.
  std::optional<std::string> Read() {
    grpc::ByteBuffer buffer;
    call_->Read(&buffer, this);
    if (!Done()) return std::nullopt;
    std::vector<grpc::Slice> slices;
    if (!buffer.Dump(&slices).ok()) return std::nullopt;
    std::string bytes;
    for (const grpc::Slice& slice : slices) {
      bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    return bytes;
  }

 private:
  bool Done() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  bool finished_ = false;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  grpc::GenericStub stub_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

// HealthCheckRequest{service = 1}.
inline std::string HealthRequest(const std::string& service) {
  return std::string("\x0a") + static_cast<char>(service.size()) + service;
}

// HealthCheckResponse{status = 1}: SERVING is 1.
inline bool IsServing(const std::optional<std::string>& response) {
  return response.has_value() && *response == std::string("\x08\x01");
}

// Reads a Watch until it says `serving`; false where it ends before.
inline bool AwaitServing(RawCall& watch, bool serving) {
  while (const std::optional<std::string> response = watch.Read()) {
    if (IsServing(response) == serving) return true;
  }
  return false;
}

inline bool CheckHealth(const std::string& address, const std::string& service) {
  RawCall call(address, "/grpc.health.v1.Health/Check", HealthRequest(service));
  return IsServing(call.Read());
}

// The bytes of reflection's list of services, in which each name stands as it is.
inline std::string ListServices(const std::string& address) {
  // ServerReflectionRequest{list_services = 7}.
  RawCall call(address, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
               std::string("\x3a\x01*"));
  return call.Read().value_or("");
}

}  // namespace deltaserve
