package buildx

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"

	"github.com/docker/buildx/store"
	"github.com/docker/buildx/store/storeutil"
	"github.com/docker/cli/cli/command"
)

// Endpoint of a named builder: what buildx's remote driver calls in the
// container is a front door of the cage. The remote driver and no other: when the
// cage is gone, a build fails. buildx's own docker-container driver would start
// a builder without a cage under the same name.
func endpoint(container, context string) string {
	return "docker-container://" + container + "?" + url.Values{"context": {context}}.Encode()
}

// TakenError is a builder of that name which is not ours.
type TakenError struct{ Name string }

func (e *TakenError) Error() string { return fmt.Sprintf("buildx has another builder %q", e.Name) }

// Hint is what the person can do about it.
func (e *TakenError) Hint() string {
	return "choose another --name, or docker buildx rm " + e.Name
}

// NameError is a name that buildx does not take.
type NameError struct{ Err error }

func (e *NameError) Error() string { return e.Err.Error() }
func (e *NameError) Unwrap() error { return e.Err }

// Hint is what the person can do about it.
func (e *NameError) Hint() string { return "a name is a letter, then letters, digits, - and _" }

// CheckName says whether buildx has room for a builder of that name.
func CheckName(cli *command.DockerCli, name string) error {
	if valid, err := store.ValidateName(name); err != nil || valid != name {
		return &NameError{fmt.Errorf("%q is no name for a builder", name)}
	}
	return transact(cli, func(txn *store.Txn) error {
		if ng, err := find(txn, name); err != nil || ng == nil || ours(ng) {
			return err
		}
		return &TakenError{name}
	})
}

// AddBuilder makes the cage in a container a builder that docker buildx knows
// by name. A result is loaded into the engine unless a build says otherwise.
func AddBuilder(cli *command.DockerCli, name, container string) error {
	return transact(cli, func(txn *store.Txn) error {
		return txn.Save(&store.NodeGroup{Name: name, Driver: "remote", Nodes: []store.Node{{
			Name: name + "0", Endpoint: endpoint(container, cli.CurrentContext()),
			DriverOpts: map[string]string{"default-load": "true"},
		}}})
	})
}

// RemoveBuilder removes it again, if it is ours. was says that plain docker
// buildx used it.
func RemoveBuilder(cli *command.DockerCli, name string) (was bool, err error) {
	err = transact(cli, func(txn *store.Txn) error {
		ng, err := find(txn, name)
		if err != nil || ng == nil || !ours(ng) {
			return err
		}
		if current, err := storeutil.GetCurrentInstance(txn, cli); err == nil && current != nil {
			was = current.Name == name
		}
		return txn.Remove(name)
	})
	return was, err
}

// ours recognises what AddBuilder saved.
func ours(ng *store.NodeGroup) bool {
	return ng.Driver == "remote" && len(ng.Nodes) == 1 && strings.HasPrefix(ng.Nodes[0].Endpoint, "docker-container://buildcage-")
}

func find(txn *store.Txn, name string) (*store.NodeGroup, error) {
	ng, err := txn.NodeGroupByName(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return ng, err
}

func transact(cli *command.DockerCli, do func(*store.Txn) error) error {
	txn, release, err := storeutil.GetStore(cli)
	if err != nil {
		return fmt.Errorf("opening buildx's list of builders: %w", err)
	}
	defer release()
	return do(txn)
}
