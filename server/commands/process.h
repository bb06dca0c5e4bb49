// What the process is set up with before anything else runs.
#ifndef CAUSEWAY_SERVER_COMMANDS_PROCESS_H_
#define CAUSEWAY_SERVER_COMMANDS_PROCESS_H_

namespace causeway {

// A program that calls this has standard input, output and error open from its very start, on /dev/null where they were
// closed: otherwise a listener or a model's file would get their numbers, and messages would be written into it. After
// the call, writing to a pipe that nobody reads, or beyond a limit on the size of files, is an error of that write and
// does not end the process.
void PrepareProcess();

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_COMMANDS_PROCESS_H_
