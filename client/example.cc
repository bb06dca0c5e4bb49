// The smallest program: it streams a completion. Usage: client_example HOST:PORT "In the beginning"
#include <iostream>

#include "client/client.h"

int main(int argc, char** argv) {
  causeway::Client client(argc > 1 ? argv[1] : "127.0.0.1:50051");
  causeway::v1::GenerateRequest request;
  request.set_prompt(argc > 2 ? argv[2] : "In the beginning");
  request.mutable_stop()->set_max_tokens(64);
  const absl::Status status = client.GenerateStream(request, [](const causeway::v1::GenerateStreamResponse& event) {
    std::cout << event.delta().text() << std::flush;
    return true;
  });
  std::cout << "\n";
  if (!status.ok()) std::cerr << status.message() << "\n";
  return status.ok() ? 0 : 1;
}
