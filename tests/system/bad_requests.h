#pragma once

// Requests that must be refused, each with what the refusal says: of the router's methods and of
// the world's. One table: bad_request_test.cc goes through it, the soak test draws from it.

#include <functional>
#include <string>
#include <vector>

#include "grpcpp/grpcpp.h"
#include "proto/error.h"
#include "tests/system/served_model.h"

namespace deltaserve::test {

struct BadRequest {
  std::string name;  // what is wrong with it
  v1::ErrorCode code;
  // Of its ErrorDetail; `message` is a part of the text, with the value and the remedy.
  std::string field, message;
  // Sends it and waits for the end, at most a minute. Any thread.
  std::function<grpc::Status(ServedModel&)> send;
};

// All of them, for the model that `served` serves. None of them runs in the engine.
std::vector<BadRequest> BadRequests(ServedModel& served);

// One more, apart because its 16 MiB would hide what else a process's memory does.
BadRequest OversizedRequest();

// Requests that are good, but must be refused while router and world drain.
std::vector<BadRequest> LateRequests();

// Words on what is wrong with `status` as an answer to `bad`; empty where it is what it must be.
std::string Fault(const BadRequest& bad, const grpc::Status& status);

}  // namespace deltaserve::test
