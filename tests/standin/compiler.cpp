// The stand-in's hiprtc: it hands CUDA C++ to this machine's C++ compiler. The code of a program is a shared library,
// after eight letters and its size.
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <regex>
#include <sstream>

#include "standin.h"

using std::string;

struct Program {
    string source, log, code;
};

static string contents(const string &path) {
    std::stringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}

API const char *hiprtcGetErrorString(Status error) { return error ? "the compiler found errors" : "no error"; }
API Status hiprtcVersion(int *major, int *minor) { return *major = 7, *minor = 0, 0; }
API Status hiprtcCreateProgram(Program **program, const char *source, const char *, int, const char **, const char **) {
    return *program = new Program{source}, 0;
}
API Status hiprtcDestroyProgram(Program **program) { return delete *program, 0; }
API Status hiprtcAddNameExpression(Program *, const char *) { return 1; }
API Status hiprtcGetLoweredName(Program *, const char *, const char **) { return 1; }

API Status hiprtcCompileProgram(Program *program, int count, const char **options) {
    // Names within the folder are always the same: CuPy finds a kernel of an earlier process in its cache only if the
    // compiler makes the same bytes of the same code again.
    char base[] = "/tmp/standin-XXXXXX";
    const string folder = mkdtemp(base), code = folder + "/kernel.cpp", library = folder + "/kernel.so";
    const string log = folder + "/log";
    std::ofstream out(code);
    out << "#include \"device.h\"\n" << program->source << "\n";
    const std::regex kernel("__global__\\s+void\\s+(\\w+)\\s*\\(");
    const bool waits = program->source.find("__syncthreads") != string::npos;
    const string &text = program->source;
    for (std::sregex_iterator found(text.begin(), text.end(), kernel), end; found != end; ++found)
        out << "STANDIN_KERNEL(" << (*found)[1] << ", " << waits << ")\n";
    out.close();
    string command = "cd " + folder + " && c++ -shared -o kernel.so kernel.cpp " + getenv("STANDIN_FLAGS");
    for (int i = 0; i < count; i++)
        if (!strncmp(options[i], "-I", 2) || !strncmp(options[i], "-D", 2)) command += string(" '") + options[i] + "'";
    const bool failed = system((command + " > " + log + " 2>&1").c_str()) != 0;
    program->log = contents(log);
    const string body = contents(library);
    const size_t size = body.size();
    program->code = "standin\n" + string((const char *)&size, sizeof size) + body;
    for (const string &file : {code, library, log}) unlink(file.c_str());
    rmdir(folder.c_str());
    return failed ? 6 : 0;
}

API Status hiprtcGetCodeSize(Program *program, size_t *size) { return *size = program->code.size(), 0; }
API Status hiprtcGetCode(Program *program, char *code) {
    return memcpy(code, program->code.data(), program->code.size()), 0;
}
API Status hiprtcGetBitcodeSize(Program *, size_t *) { return 1; }
API Status hiprtcGetBitcode(Program *, char *) { return 1; }
API Status hiprtcGetProgramLogSize(Program *program, size_t *size) { return *size = program->log.size() + 1, 0; }
API Status hiprtcGetProgramLog(Program *program, char *log) { return strcpy(log, program->log.c_str()), 0; }
