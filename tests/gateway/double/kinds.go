package main

import (
	"net/url"
	"slices"
	"strings"
)

// era is a range of releases that behave alike: v0.15 to v0.17, and v1.0 and later.
type era int

const v0, v1 era = 0, 1

var eras = map[string]era{"v0": v0, "v1": v1}

// stems gives the families in the order in which the gateway lists their plane types.
func (e era) stems() []string {
	if e == v0 {
		return []string{"Data", "Build", "Observability"}
	}
	return []string{"Data", "Workflow", "Observability"}
}

func (e era) planeTypes() []string {
	var types []string
	for _, stem := range e.stems() {
		types = append(types, planeType(stem))
	}
	return types
}

func (e era) knows(planeType string) bool {
	return slices.Contains(e.planeTypes(), planeType)
}

// kinds gives the kinds of a plane type, the namespaced one first; none for a type of the other era.
func (e era) kinds(of string) []kind {
	for _, stem := range e.stems() {
		if planeType(stem) == of {
			return []kind{{stem, false}, {stem, true}}
		}
	}
	return nil
}

func planeType(stem string) string {
	return strings.ToLower(stem) + "plane"
}

// kind is a family in a scope.
type kind struct {
	stem    string
	cluster bool
}

func (k kind) name() string {
	if k.cluster {
		return "Cluster" + k.stem + "Plane"
	}
	return k.stem + "Plane"
}

func (k kind) finalizer() string {
	return "openchoreo.dev/" + strings.ToLower(k.name()) + "-cleanup"
}

func (k kind) list() string {
	return group + strings.ToLower(k.name()) + "s"
}

func (k kind) path(of metadata) string {
	plural, name := strings.ToLower(k.name())+"s/", url.PathEscape(of.Name)
	if k.cluster {
		return group + plural + name
	}
	return group + "namespaces/" + url.PathEscape(of.Namespace) + "/" + plural + name
}

const group = "/apis/openchoreo.dev/v1alpha1/"

// key is how the gateway calls a plane: a cluster-scoped one has no namespace.
func (p plane) key() string {
	return p.Metadata.Namespace + "/" + p.Metadata.Name
}

// id is the planeID. Only a namespaced plane has its name for a default.
func (p plane) id() string {
	if p.Spec.PlaneID == "" && p.Metadata.Namespace != "" {
		return p.Metadata.Name
	}
	return p.Spec.PlaneID
}
