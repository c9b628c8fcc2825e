package contract

import "time"

// CommandAsk lets a person be asked: Questions on stdout, Answers on stdin, one
// JSON line each. The first line is a Question without an ID: from there on
// what a rule refuses may be held. The end of stdin denies all that is held,
// and whatever comes later.
const CommandAsk = "ask"

const (
	// AskPatience is how long a connection is held without an answer.
	AskPatience = 30 * time.Second
	// AskMost is how many questions a build may cause; what comes then is refused.
	AskMost = 20
)

// Question is whether a destination that no rule allows may be reached by a
// step after all. Its texts are escaped.
type Question struct {
	ID   int  `json:"id,omitempty"`
	Over bool `json:"over,omitempty"` // the one with this ID needs no answer any more: denied

	Step    string `json:"step,omitempty"` // its id in the record
	Stage   string `json:"stage,omitempty"`
	Command string `json:"command,omitempty"`
	Process string `json:"process,omitempty"`
	Secret  bool   `json:"secret,omitempty"` // the step has one
	// To is host:port; List and Rule would allow it.
	To   string `json:"to,omitempty"`
	List string `json:"list,omitempty"`
	Rule string `json:"rule,omitempty"`
}

// Answer allows a question for its step, or denies it.
type Answer struct {
	ID    int  `json:"id"`
	Allow bool `json:"allow"`
}
