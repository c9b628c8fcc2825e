package contract

// CommandSession runs the commands of this list, many at once, over the standard
// streams of one process: starting a process in a container takes the engine
// longer than a step takes. It speaks HTTP/2. A command is a POST of its name as the path,
// with its arguments in headers; the bodies are its standard input and output; how
// it ended is in the trailers.
const CommandSession = "session"

// Headers of a command in a session, and trailers of its answer.
const (
	SessionArgument = "Argument"  // one for each
	SessionExit     = "Exit-Code" // as of a process; without it the command was broken off
	SessionError    = "Error"     // one line, printable; empty: nothing to say
)

// SessionWindow is how much of one stream of a session may be under way, and
// SessionFrame how much of it in one piece: an image that comes out of the cage
// is a stream of small frames.
const (
	SessionWindow = 1 << 20
	SessionFrame  = 256 << 10
)
