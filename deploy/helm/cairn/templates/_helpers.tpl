{{- define "cairn.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "cairn.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "cairn.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "cairn.selector" -}}
app.kubernetes.io/name: {{ include "cairn.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "cairn.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "cairn.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "cairn.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "cairn.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "cairn.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end }}

{{/* Whether there is, or may come to be, more than one node. */}}
{{- define "cairn.severalNodes" -}}
{{- if or (gt (int .Values.node.replicas) 1) .Values.node.autoscaling.enabled -}}true{{- end -}}
{{- end }}

{{/* What would lose data or answer differently from pod to pod is refused before anything is installed. */}}
{{- define "cairn.check" -}}
{{- if and (include "cairn.severalNodes" .) (not .Values.database.existingSecret) -}}
{{- fail "more than one node needs database.existingSecret: the embedded log serves one process" -}}
{{- end -}}
{{- if and (include "cairn.severalNodes" .) (not .Values.identity.existingSecret) -}}
{{- fail "more than one node needs identity.existingSecret: all of them are the same brain" -}}
{{- end -}}
{{- if and .Values.projector.enabled (not (and .Values.database.existingSecret .Values.identity.existingSecret)) -}}
{{- fail "projector.enabled needs database.existingSecret and identity.existingSecret" -}}
{{- end -}}
{{- if and .Values.projector.enabled (not .Values.qdrant.url) -}}
{{- fail "projector.enabled needs qdrant.url: an index inside of one process cannot be filled by another" -}}
{{- end -}}
{{- if and .Values.federation.enabled (not (and .Values.database.existingSecret .Values.identity.existingSecret)) -}}
{{- fail "federation.enabled needs database.existingSecret and identity.existingSecret" -}}
{{- end -}}
{{- if and .Values.kurrentdb.existingSecret (not .Values.database.existingSecret) -}}
{{- fail "kurrentdb.existingSecret needs database.existingSecret: read models stay in PostgreSQL" -}}
{{- end -}}
{{- if and (not .Values.node.persistence.enabled) (not .Values.database.existingSecret) -}}
{{- fail "node.persistence.enabled=false without database.existingSecret would lose every memory with the pod" -}}
{{- end -}}
{{- end }}

{{- define "cairn.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "cairn.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The settings of a process; secrets are read from files. */}}
{{- define "cairn.env" -}}
{{- if .Values.identity.existingSecret }}
- {name: CAIRN_BRAIN_KEY, value: /run/secrets/cairn/identity/brain.key}
{{- end }}
{{- if .Values.database.existingSecret }}
- {name: DATABASE_URL_FILE, value: /run/secrets/cairn/database/url}
{{- end }}
{{- if .Values.qdrant.existingSecret }}
- {name: QDRANT_API_KEY_FILE, value: /run/secrets/cairn/qdrant/api-key}
{{- end }}
{{- if .Values.kurrentdb.existingSecret }}
- {name: KURRENTDB_URL_FILE, value: /run/secrets/cairn/kurrentdb/url}
{{- end }}
{{- end }}

{{- define "cairn.mounts" -}}
- {name: data, mountPath: /var/lib/cairn}
- {name: tmp, mountPath: /tmp}
{{- if .Values.identity.existingSecret }}
- {name: identity, mountPath: /run/secrets/cairn/identity, readOnly: true}
{{- end }}
{{- if .Values.database.existingSecret }}
- {name: database, mountPath: /run/secrets/cairn/database, readOnly: true}
{{- end }}
{{- if .Values.qdrant.existingSecret }}
- {name: qdrant, mountPath: /run/secrets/cairn/qdrant, readOnly: true}
{{- end }}
{{- if .Values.kurrentdb.existingSecret }}
- {name: kurrentdb, mountPath: /run/secrets/cairn/kurrentdb, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* All volumes but `data`, which is a claim or dies with the pod. */}}
{{- define "cairn.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- with .Values.identity.existingSecret }}
- name: identity
  secret: {secretName: {{ . | quote }}, defaultMode: 0440, items: [{key: brain.key, path: brain.key}]}
{{- end }}
{{- with .Values.database }}
{{- if .existingSecret }}
- name: database
  secret: {secretName: {{ .existingSecret | quote }}, defaultMode: 0440, items: [{key: {{ .key | quote }}, path: url}]}
{{- end }}
{{- end }}
{{- with .Values.qdrant }}
{{- if .existingSecret }}
- name: qdrant
  secret: {secretName: {{ .existingSecret | quote }}, defaultMode: 0440, items: [{key: {{ .key | quote }}, path: api-key}]}
{{- end }}
{{- end }}
{{- with .Values.kurrentdb }}
{{- if .existingSecret }}
- name: kurrentdb
  secret: {secretName: {{ .existingSecret | quote }}, defaultMode: 0440, items: [{key: {{ .key | quote }}, path: url}]}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The claim of a data folder. Takes the values of a persistence. */}}
{{- define "cairn.claim" -}}
- metadata:
    name: data
    {{- with .annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    accessModes:
      {{- toYaml .accessModes | nindent 6 }}
    {{- with .storageClassName }}
    storageClassName: {{ . | quote }}
    {{- end }}
    resources:
      requests: {storage: {{ .size | quote }}}
{{- end }}

{{/* Zones first, then machines; neither keeps a pod from starting. Takes a dict of root and component. */}}
{{- define "cairn.spread" -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "cairn.selector" $.root | nindent 6 }}
      app.kubernetes.io/component: {{ $.component }}
{{- end }}
{{- end }}

{{/* Where pods may run, as the values of a component say. Takes a dict of root, component and values. */}}
{{- define "cairn.placement" -}}
topologySpreadConstraints:
{{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
{{- else }}
  {{- include "cairn.spread" . | trim | nindent 2 }}
{{- end }}
{{- with include "cairn.choice" .values | trim }}
{{ . }}
{{- end }}
{{- end }}

{{/* Which machines, as the values of a component say. */}}
{{- define "cairn.choice" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}
