package event

// Reason is why something was refused or failed. The vocabulary is closed:
// reports and documentation list it.
type Reason string

const (
	NotAllowed         Reason = "not-allowed"
	IPNotAllowed       Reason = "ip-not-allowed"
	MissingSNI         Reason = "missing-sni"
	InvalidSNI         Reason = "invalid-sni"
	ECHPresent         Reason = "ech-present"
	HelloMalformed     Reason = "client-hello-malformed"
	HelloTooLarge      Reason = "client-hello-too-large"
	HelloTimeout       Reason = "client-hello-timeout"
	Unclassified       Reason = "protocol-unclassified"
	MissingHost        Reason = "missing-host-header"
	InvalidHost        Reason = "invalid-host"
	AuthorityMismatch  Reason = "host-authority-mismatch"
	BadRequest         Reason = "bad-request"
	ConnectMethod      Reason = "connect-method"
	UpgradeRefused     Reason = "upgrade-refused"
	DNSFailed          Reason = "dns-failed"
	DNSRefused         Reason = "dns-refused"
	InternalAddress    Reason = "internal-address"
	SelfAddress        Reason = "self-address"
	Overload           Reason = "proxy-overload"
	UpstreamError      Reason = "upstream-error"
	EntitlementDenied  Reason = "entitlement-denied"
	InvalidMode        Reason = "invalid-mode"
	InvalidOption      Reason = "invalid-option"
	InvalidRequest     Reason = "invalid-request"
	NetworkSetupFailed Reason = "network-setup-failed"
	SourcePolicy       Reason = "source-policy"
	Idle               Reason = "idle"
	UploadBudget       Reason = "upload-budget"
	ClientClosed       Reason = "client-closed" // the client went away before a verdict
	NetworkNone        Reason = "network-none"
)
