#!/usr/bin/env bash
# Keys, certificates and kubeconfigs of one cluster. They live as long as the cluster.
. "$(dirname "$0")/lib.sh"

authority() { # NAME COMMON-NAME
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
    -subj "/CN=$2" -keyout "$PKI/$1.key" -out "$PKI/$1.crt" 2>/dev/null
}

certificate() { # NAME AUTHORITY SUBJECT [SUBJECT-ALTERNATIVE-NAMES]
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -subj "$3" -keyout "$PKI/$1.key" -out "$PKI/$1.csr" 2>/dev/null
  {
    echo 'keyUsage = digitalSignature, keyEncipherment'
    echo 'extendedKeyUsage = serverAuth, clientAuth'
    [ -z "${4:-}" ] || echo "subjectAltName = $4"
  } >"$PKI/$1.ext"
  openssl x509 -req -in "$PKI/$1.csr" -CA "$PKI/$2.crt" -CAkey "$PKI/$2.key" -CAcreateserial \
    -days 3650 -extfile "$PKI/$1.ext" -out "$PKI/$1.crt" 2>/dev/null
}

kubeconfig() { # FILE CERTIFICATE
  cat >"$1" <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: pushcluster-$CLUSTER
    cluster:
      server: $API_URL
      certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
  - name: $2
    user:
      client-certificate-data: $(base64 -w0 "$PKI/$2.crt")
      client-key-data: $(base64 -w0 "$PKI/$2.key")
contexts:
  - name: pushcluster-$CLUSTER
    context: {cluster: pushcluster-$CLUSTER, user: $2}
current-context: pushcluster-$CLUSTER
YAML
  chmod 600 "$1"
}

mkdir -p "$PKI"
chmod 700 "$PKI"
authority ca "pushcluster-$CLUSTER"
authority front-proxy-ca "pushcluster-$CLUSTER-front-proxy"
certificate apiserver ca /CN=kube-apiserver \
  "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:$SERVICE_API,IP:$API_ADDRESS,IP:$LOCAL_ADDRESS"
certificate apiserver-kubelet-client ca /O=system:masters/CN=kube-apiserver-kubelet-client
certificate front-proxy-client front-proxy-ca /CN=front-proxy-client
certificate admin ca /O=system:masters/CN=admin
certificate kube-controller-manager ca /CN=system:kube-controller-manager
certificate kube-scheduler ca /CN=system:kube-scheduler
certificate kube-proxy ca /CN=system:kube-proxy
certificate volume-provisioner ca /CN=pushcluster:volume-provisioner
for node in "${NODES[@]}"; do
  certificate "$node" ca "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:$(node_address "$node")"
  mkdir -p "$(node_state "$node")"
  kubeconfig "$(node_state "$node")/kubelet.kubeconfig" "$node"
  kubeconfig "$(node_state "$node")/kube-proxy.kubeconfig" kube-proxy
done
openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/service-account.key" 2>/dev/null
kubeconfig "$STATE/kube-controller-manager.kubeconfig" kube-controller-manager
kubeconfig "$STATE/kube-scheduler.kubeconfig" kube-scheduler
kubeconfig "$STATE/volume-provisioner.kubeconfig" volume-provisioner
kubeconfig "$KUBECONFIG_ADMIN" admin
