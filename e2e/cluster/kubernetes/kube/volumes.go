package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// The controller manager brings a provisioner for tests (kubernetes.io/host-path), but the directories it
// makes can be written by root alone, and a pod under the restricted policy is never root. This one makes
// directories that everybody can write. Both nodes see the same directory, so that a pod and its volume move
// between them as they would with a network disk.
const (
	provisionerName  = "pushcluster.io/host-path"
	provisionedBy    = "pv.kubernetes.io/provisioned-by"
	wantsProvisioner = "volume.kubernetes.io/storage-provisioner"
	// What failed is tried again when the informers show everything once more.
	retryEvery = 2 * time.Second
)

type volumes struct {
	client    kubernetes.Interface
	directory string
}

func newVolumesCommand() *cobra.Command {
	var kubeconfig, directory string
	command := &cobra.Command{
		Use:          "volume-provisioner",
		SilenceUsage: true,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return fmt.Errorf("read the kubeconfig: %w", err)
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return fmt.Errorf("make a client: %w", err)
			}
			return (&volumes{client, directory}).run(command.Context())
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	command.Flags().StringVar(&directory, "directory", "", "the folder that holds a folder for every volume")
	return command
}

func (v *volumes) run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactory(v.client, retryEvery)
	claims := factory.Core().V1().PersistentVolumeClaims().Informer()
	if _, err := claims.AddEventHandler(onEach(func(claim *core.PersistentVolumeClaim) error {
		return v.provision(ctx, claim)
	})); err != nil {
		return err
	}
	existing := factory.Core().V1().PersistentVolumes().Informer()
	if _, err := existing.AddEventHandler(onEach(func(volume *core.PersistentVolume) error {
		return v.reclaim(ctx, volume)
	})); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	return nil
}

func onEach[T any](act func(T) error) cache.ResourceEventHandler {
	handle := func(object any) {
		if err := act(object.(T)); err != nil {
			klog.ErrorS(err, "will be tried again")
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: handle, UpdateFunc: func(_, object any) { handle(object) }}
}

func (v *volumes) provision(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	if claim.Annotations[wantsProvisioner] != provisionerName || claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil {
		return nil
	}
	// Named after the claim's UID: a second try meets the first one's volume instead of making another.
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(v.directory, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return fmt.Errorf("make the folder of %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	if err := os.Chmod(path, 0o777); err != nil { // past the umask
		return fmt.Errorf("open the folder of %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	_, err := v.client.CoreV1().PersistentVolumes().Create(ctx, volumeFor(claim, name, path), meta.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the volume of %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

func volumeFor(claim *core.PersistentVolumeClaim, name, path string) *core.PersistentVolume {
	class := ""
	if claim.Spec.StorageClassName != nil {
		class = *claim.Spec.StorageClassName
	}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: provisionerName}},
		Spec: core.PersistentVolumeSpec{
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			StorageClassName:              class,
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: core.PersistentVolumeSource{HostPath: &core.HostPathVolumeSource{Path: path}},
		},
	}
}

func (v *volumes) reclaim(ctx context.Context, volume *core.PersistentVolume) error {
	if volume.Annotations[provisionedBy] != provisionerName || volume.Status.Phase != core.VolumeReleased ||
		volume.Spec.PersistentVolumeReclaimPolicy != core.PersistentVolumeReclaimDelete {
		return nil
	}
	// The path in the object could have been edited; the name cannot, and it holds no slash.
	removed := os.RemoveAll(filepath.Join(v.directory, volume.Name))
	err := v.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	if err := errors.Join(removed, err); err != nil {
		return fmt.Errorf("remove the volume %s: %w", volume.Name, err)
	}
	return nil
}
