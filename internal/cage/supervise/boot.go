package supervise

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
)

// maxBoot bounds the configuration line; a policy and CA bundles fit easily.
const maxBoot = 16 << 20

type line struct {
	text []byte
	err  error
}

// configuration reads the one line of standard input, and from then on takes
// its end for the client's.
func (c *cage) configuration(boot context.Context) (contract.Boot, error) {
	in := bufio.NewReader(io.LimitReader(c.in, maxBoot))
	lines := make(chan line, 1)
	go func() {
		text, err := in.ReadBytes('\n')
		lines <- line{text, err}
	}()
	var config contract.Boot
	select {
	case l := <-lines:
		if l.err != nil {
			return config, fmt.Errorf("reading the boot configuration: %w", l.err)
		}
		if err := decode(l.text, &config); err != nil {
			return config, err
		}
	case <-boot.Done():
		return config, fmt.Errorf("waiting for the boot configuration: %w", context.Cause(boot))
	}
	if config.Linger != c.stay {
		return config, errors.New("reading the boot configuration: it is for another kind of cage")
	}
	if !config.Linger {
		go func() {
			_, _ = io.Copy(io.Discard, c.in)
			c.end(errClientGone)
		}()
	}
	return config, nil
}

func decode(text []byte, config *contract.Boot) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(config); err != nil {
		return fmt.Errorf("reading the boot configuration: %w", err)
	}
	if config.Version != contract.BootVersion {
		return &versionError{config.Version}
	}
	if config.RunID == "" {
		return errors.New("reading the boot configuration: there is no run id")
	}
	return nil
}

type versionError struct{ got int }

func (e *versionError) Error() string {
	return fmt.Sprintf("reading the boot configuration: version %d, this cage speaks %d", e.got, contract.BootVersion)
}

func (e *versionError) Hint() string {
	return "the program and its cage image are of different versions"
}

// say writes one status line. Nobody may be listening any more.
func (c *cage) say(s contract.Status) {
	s.Time = time.Now().UTC()
	b, err := json.Marshal(s)
	if err == nil {
		_, err = c.out.Write(append(b, '\n'))
	}
	if err != nil {
		c.log.Warn("writing status", "error", err)
	}
}

// maxReason bounds what a reason may quote of a daemon's output.
const maxReason = 400

// oneLine makes text of any origin fit to be shown: what a daemon printed last
// may quote a step.
func oneLine(s string) string {
	return event.EscapeMax(strings.Join(strings.Fields(s), " "), maxReason)
}
