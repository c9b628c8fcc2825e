package report

import "github.com/buildcage/buildcage/internal/event"

// sentence is what a reason means, in the words of docs/events.md; empty for
// one that is not known.
func sentence(reason event.Reason) string {
	switch reason {
	case event.NotAllowed:
		return "No rule allows this name and port, or a known_blocked_rules entry refuses it."
	case event.IPNotAllowed:
		return "A connection to an address without a name, and no IP rule allows it."
	case event.MissingSNI:
		return "A TLS hello without a server name, so there is nothing to judge."
	case event.InvalidSNI:
		return "A TLS hello whose server name is no legal host name, is an address or comes twice."
	case event.ECHPresent:
		return "A TLS hello with an encrypted inner name (ECH or ESNI) that can't be judged."
	case event.HelloMalformed:
		return "A TLS hello that does not parse."
	case event.HelloTooLarge:
		return "A TLS hello beyond the limit of 64 KiB."
	case event.HelloTimeout:
		return "The first bytes did not suffice for a decision in time."
	case event.Unclassified:
		return "Neither TLS nor HTTP/1, and no rule allows this destination for any protocol."
	case event.MissingHost:
		return "An HTTP request without a Host header."
	case event.InvalidHost:
		return "A Host header that is no legal host and port, or more than one."
	case event.AuthorityMismatch:
		return "Request target, Host header and port of an HTTP request contradict each other."
	case event.BadRequest:
		return "An HTTP request whose syntax or framing is refused."
	case event.ConnectMethod:
		return "An HTTP CONNECT request: the cage is no open proxy."
	case event.UpgradeRefused:
		return "An HTTP upgrade to something other than a tunnel to the judged host."
	case event.DNSFailed:
		return "The name is allowed but did not resolve."
	case event.DNSRefused:
		return "A DNS question of a kind that is never answered, or sent where none may go."
	case event.InternalAddress:
		return "The destination, or the address that the name resolves to, is guarded or private."
	case event.SelfAddress:
		return "The destination is the cage or the engine itself."
	case event.Overload:
		return "Refused by a limit on resources."
	case event.UpstreamError:
		return "The origin could not be reached."
	case event.EntitlementDenied:
		return "The build asked for host networking, insecure mode or a device."
	case event.InvalidMode:
		return "A build request with a mode that the cage does not know."
	case event.InvalidOption:
		return "A build option that the cage does not grant."
	case event.InvalidRequest:
		return "A request, of the build or to the nameserver, that does not parse."
	case event.NetworkSetupFailed:
		return "The network of a step could not be made, so the step did not run."
	case event.SourcePolicy:
		return "The builder's own fetch is refused by the builder: section."
	case event.Idle:
		return "Closed because nothing was sent for too long."
	case event.UploadBudget:
		return "The step has sent as much as its max_upload allows."
	case event.ClientClosed:
		return "The client closed the connection before there was a verdict."
	case event.NetworkNone:
		return "The policy gives this step no network."
	case notTCP:
		return "Traffic that is not TCP: only the cage's nameserver and proxy answer a step."
	}
	return ""
}
